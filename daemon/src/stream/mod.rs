//! What a stream is, without doing anything: which commands are legal ([`command`]), which of its
//! pages are dirty, in writeback or resident ([`extent`]), what its writer should do next
//! ([`drain`]) and by which means ([`ladder`]), how far it has come ([`marks`]) and where its time went ([`waits`]). Pure:
//! no clock, no thread, no I/O, so that tests and the simulation drive exactly what runs.

pub mod command;
pub mod drain;
pub mod extent;
pub mod ladder;
pub mod marks;
pub mod waits;
