//! How the snapshot lies on the wire, where that is not simply field after field.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Status;

/// What protocol version 6 brought: its block follows the snapshot, for all streams in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since6 {
    /// [`Stream::client_user`](super::Stream::client_user) of each stream.
    pub client_users: Vec<Option<String>>,
}

impl Since6 {
    /// The block that belongs to `status`.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let users = status.streams.iter().map(|stream| stream.client_user.clone());
        Self { client_users: users.collect() }
    }

    /// Puts it where it belongs; false when it is not of this snapshot.
    #[must_use]
    pub fn put_into(self, status: &mut Status) -> bool {
        if self.client_users.len() != status.streams.len() {
            return false;
        }
        for (stream, user) in status.streams.iter_mut().zip(self.client_users) {
            stream.client_user = user;
        }
        true
    }
}

/// For people a text that is not known is `null`; how it lies on the wire, `on_wire` knows.
fn serialize<S: Serializer>(
    text: &Option<String>,
    to: S,
    on_wire: impl FnOnce(S) -> Result<S::Ok, S::Error>,
) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { text.serialize(to) } else { on_wire(to) }
}

fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
    on_wire: impl FnOnce(D) -> Result<Option<String>, D::Error>,
) -> Result<Option<String>, D::Error> {
    if from.is_human_readable() { Option::deserialize(from) } else { on_wire(from) }
}

/// A text that was always there before it could be unknown: empty on the wire.
pub(super) mod empty {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        text: &Option<String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize(text, to, |to| text.as_deref().unwrap_or_default().serialize(to))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<String>, D::Error> {
        let known = |text: String| Some(text).filter(|text| !text.is_empty());
        super::deserialize(from, |from| String::deserialize(from).map(known))
    }
}

/// What a later version brought: on the wire it is in a block of its own.
pub(super) mod later {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        text: &Option<String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize(text, to, S::serialize_unit)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<String>, D::Error> {
        super::deserialize(from, |from| <()>::deserialize(from).map(|()| None))
    }
}
