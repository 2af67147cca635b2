//! How the snapshot lies on the wire, where that is not simply field after field.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Held, Status};

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

/// What protocol version 9 brought: its block follows that of version 6, for all streams in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since9 {
    /// [`Stream::paused`](super::Stream::paused) and [`Stream::held`](super::Stream::held) of each stream.
    pub streams: Vec<(bool, Option<Held>)>,
}

impl Since9 {
    /// The block that belongs to `status`; `None` where that is for an older version.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let of_stream = |stream: &super::Stream| Some((stream.paused?, stream.held));
        let streams: Option<Vec<_>> = status.streams.iter().map(of_stream).collect();
        // Nothing is said of no streams.
        streams.filter(|streams| !streams.is_empty()).map(|streams| Self { streams })
    }

    /// Puts it where it belongs; false when it is not of this snapshot.
    #[must_use]
    pub fn put_into(self, status: &mut Status) -> bool {
        if self.streams.len() != status.streams.len() {
            return false;
        }
        for (stream, (paused, held)) in status.streams.iter_mut().zip(self.streams) {
            (stream.paused, stream.held) = (Some(paused), held);
        }
        true
    }
}

/// For people what is not known is `null`; how it lies on the wire, `on_wire` knows.
fn serialize<T: Serialize, S: Serializer>(
    value: &Option<T>,
    to: S,
    on_wire: impl FnOnce(S) -> Result<S::Ok, S::Error>,
) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { value.serialize(to) } else { on_wire(to) }
}

fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
    on_wire: impl FnOnce(D) -> Result<Option<T>, D::Error>,
) -> Result<Option<T>, D::Error> {
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
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize(value, to, S::serialize_unit)
    }

    pub(in super::super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        super::deserialize(from, |from| <()>::deserialize(from).map(|()| None))
    }
}
