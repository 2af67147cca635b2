//! Where only a write tells.

pub(super) fn is_unread() -> bool {
    false
}

pub(super) fn end_when_unread(_code: u8) -> std::io::Result<()> {
    Ok(())
}
