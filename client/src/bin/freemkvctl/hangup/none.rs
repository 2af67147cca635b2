//! Where only a write tells.

pub(super) fn is_unread() -> bool {
    false
}
