//! What somebody is told who is one too many: how many there are, which key allows no more, and what to do.

use freemkvd_proto::{ErrorCode, Failure};

use crate::access::Crowded;
use crate::config::{Limits, Size};
use crate::user::UserId;
use crate::writer::Lacking;

/// There are as many connections as may be.
pub(super) fn connections(crowded: Crowded, user: Option<UserId>, limits: &Limits) -> String {
    match (crowded, user) {
        (Crowded::ForUser, Some(user)) => format!(
            "user {user} has {} connections, as many as limits.connections_per_user allows",
            limits.connections_per_user_max
        ),
        _ => format!(
            "there are {} connections, as many as limits.connections allows",
            limits.connections_max
        ),
    }
}

/// There are as many streams as may be.
pub(super) fn streams(crowded: Crowded, user: Option<UserId>, limits: &Limits) -> Failure {
    let message = match (crowded, user) {
        (Crowded::ForUser, Some(user)) => format!(
            "user {user} has {} streams open, as many as limits.streams_per_user allows; wait for one to finish",
            limits.streams_per_user_max
        ),
        _ => format!(
            "{} streams are open, as many as limits.streams allows; wait for one to finish",
            limits.streams_max
        ),
    };
    Failure::new(ErrorCode::TOO_MANY_STREAMS, message)
}

/// Clients share as much memory as they may.
pub(super) fn slots(crowded: Crowded, user: Option<UserId>, limits: &Limits) -> Failure {
    let (whose, most_bytes, key) = match (crowded, user) {
        (Crowded::ForUser, Some(user)) => {
            let whose = format!("the slots that user {user} shares");
            (whose, limits.slots_per_user_bytes, "limits.slots_per_user")
        }
        _ => ("all shared slots".to_owned(), limits.slots_bytes, "limits.slots"),
    };
    let message = format!(
        "{whose} would be more than the {} that {key} allows; share less memory, raise it, or wait until another \
         stream has ended",
        Size(most_bytes)
    );
    Failure::new(ErrorCode::NO_RESOURCES, message)
}

/// There is no queue for another stream.
pub(super) fn queue(lacking: Lacking) -> &'static str {
    match lacking {
        Lacking::Memory => {
            "freemkvd has no memory for the queue of another stream; raise MemoryMax= of its unit, or \
             stream.queue_total if that is less than 1 MiB for each stream, or wait until another has ended"
        }
        Lacking::PartOfUser => {
            "limits.queue_per_user has not 1 MiB for one stream more of this user; raise it, or wait until \
             another has ended"
        }
    }
}
