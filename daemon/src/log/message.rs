//! One message of the log, kept to be told later and by another thread: what an event of `tracing` has, with values
//! of its own.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{DisplayValue, Field, Value, Visit, display};
use tracing::{Event, Metadata, Subscriber};

/// Most values of one message. What says more than that tells its first ones.
const VALUES_MAX: usize = 32;

/// See the module's documentation.
pub(super) struct Message {
    metadata: &'static Metadata<'static>,
    pub(super) values: Vec<(Field, Owned)>,
    pub(super) at: SystemTime,
}

/// A value that an event has lent.
pub(super) enum Owned {
    Text(String),
    /// As it would be printed.
    Words(DisplayValue<String>),
    Signed(i64),
    Unsigned(u64),
    Truth(bool),
}

impl Owned {
    fn as_value(&self) -> &dyn Value {
        match self {
            Self::Text(text) => text,
            Self::Words(words) => words,
            Self::Signed(number) => number,
            Self::Unsigned(number) => number,
            Self::Truth(truth) => truth,
        }
    }

    fn len_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Words(words) => words.to_string().len(),
            Self::Signed(_) | Self::Unsigned(_) | Self::Truth(_) => 0,
        }
    }
}

impl Message {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut values = Values(Vec::new());
        event.record(&mut values);
        Self { metadata: event.metadata(), values: values.0, at: SystemTime::now() }
    }

    /// Memory that it takes, about.
    pub(super) fn len_bytes(&self) -> usize {
        let values =
            self.values.iter().map(|(_, value)| size_of::<(Field, Owned)>() + value.len_bytes());
        size_of::<Self>() + values.sum::<usize>()
    }

    /// Tells it to `sink`, as if it happened now.
    pub(super) fn tell(&self, sink: &dyn Subscriber) {
        let Some((first, _)) = self.values.first() else { return };
        // A place without a value says nothing.
        let mut places: [(&Field, Option<&dyn Value>); VALUES_MAX] = [(first, None); VALUES_MAX];
        for (place, (field, value)) in places.iter_mut().zip(&self.values) {
            *place = (field, Some(value.as_value()));
        }
        let values = self.metadata.fields().value_set(&places);
        sink.event(&Event::new(self.metadata, &values));
    }
}

struct Values(Vec<(Field, Owned)>);

impl Values {
    fn push(&mut self, field: &Field, value: Owned) {
        self.0.push((field.clone(), value));
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Owned::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Owned::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Owned::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Owned::Truth(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Owned::Words(display(format!("{value:?}"))));
    }
}
