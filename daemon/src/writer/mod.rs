//! One thread per stream, which owns the stream's file and executes what `stream` and `budget`
//! decide. Every blocking call to storage is made here and nowhere else, so that a device that hangs
//! hangs only the threads of its own streams.

mod dispose;
mod ending;
mod file;
mod gate;
mod keep;
mod life;
mod no_space;
mod open;
mod openings;
mod queue;
mod record;
mod run;

pub use ending::Ending;
pub use gate::{Account, Gate};
pub use life::{Shop, spawn};
pub use open::{By, Claim, OpenFiles, Origin, Target};
pub use openings::{Openings, going_away};
pub use queue::{End, Job, Lacking, Next, Queue, Queues, Room, SEGMENT_BYTES, Segment, SlotsWrite};
pub use record::{Activity, Client, Record, Snapshot};
