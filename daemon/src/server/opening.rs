//! A first frame that opens a stream or goes on with one, and what came with it: everything that can be refused
//! without a look at the disk. Of the descriptors it is only counted how many there are.

use std::path::PathBuf;

use freemkvd_proto::limits::{SLOT_BYTES, SLOTS_MAX, WEIGHTS};
use freemkvd_proto::{
    Command, ErrorCode, Failure, Leftover, Open, OpenFile, OpenGiven, OpenResumable, Resume, Token,
    Transfer,
};

use super::guarded::unexpected;
use super::socket::Passed;
use super::{Server, control, crowd};
use crate::access::{Crowded, Place};
use crate::foreign::Mapped;
use crate::storage::{BadSlots, Descriptors, Slots};
use crate::writer::{By, Client, Ending, going_away};

/// A stream that is to be opened.
pub(super) struct Opening {
    /// How its file is found.
    pub(super) by: By,
    /// The file as it is called until it is complete; or what its client calls it.
    pub(super) path: PathBuf,
    pub(super) ending: Ending,
    /// What it is to be resumed by.
    pub(super) token: Option<Token>,
    pub(super) size_hint_bytes: Option<u64>,
    pub(super) weight: u32,
    pub(super) window_bytes: Option<u64>,
    pub(super) transfer: Transfer,
    /// `None` when content goes inline.
    pub(super) slots: Option<Mapped>,
}

/// A stream that is to go on.
pub(super) struct Resuming {
    pub(super) from: Resume,
    /// `None` when content goes inline.
    pub(super) slots: Option<Mapped>,
    /// What came beside the slots: its file, if its client has opened that.
    pub(super) rest: Passed,
}

/// True for a command that opens the stream of its connection.
pub(super) fn is_opening(command: &Command) -> bool {
    use Command::{Open, OpenFile, OpenGiven, OpenResumable};
    matches!(command, Open(_) | OpenResumable(_) | OpenFile(_) | OpenGiven(_))
}

/// Checks a command that opens the stream of its connection.
///
/// # Errors
/// What to tell the client.
pub(super) fn check(
    server: &Server,
    client: Client,
    command: Command,
    passed: Passed,
) -> Result<Opening, Failure> {
    refuse_while_draining(server)?;
    let plain = |token, open| OpenFile { token, open, publish: false, leftover: Leftover::Keep };
    match command {
        Command::Open(open) => by_path(server, client, plain(None, open), passed),
        Command::OpenResumable(OpenResumable { token, open }) => {
            by_path(server, client, plain(Some(token), open), passed)
        }
        Command::OpenFile(file) => by_path(server, client, file, passed),
        Command::OpenGiven(given) => by_descriptor(server, client, given, passed),
        _ => Err(Failure::new(ErrorCode::INTERNAL, "a command that opens nothing")),
    }
}

/// Of the ways to open a stream by a path the most general one says all.
fn by_path(
    server: &Server,
    client: Client,
    file: OpenFile,
    passed: Passed,
) -> Result<Opening, Failure> {
    let ending = Ending::of(&file);
    let OpenFile { token, open, .. } = file;
    let Open { path, mode, size_hint_bytes, transfer, weight, window_bytes } = open;
    let most = server.config().limits.path_bytes_max;
    let bad = |what: &str| {
        let message = format!(
            "the path {what}; send an absolute path of at most {most} bytes (limits.path_length)"
        );
        Failure::new(ErrorCode::BAD_PATH, message)
    };
    if path.0.len() > most {
        return Err(bad("is too long"));
    }
    let path = path.into_path().ok_or_else(|| bad("holds a NUL byte"))?;
    if !path.is_absolute() {
        return Err(bad("is not absolute"));
    }
    check_weight(weight)?;
    let path = ending.opened_path(path);
    let most = usize::from(transfer != Transfer::Inline);
    none_beside_slots(transfer, passed.files.count().saturating_sub(most))?;
    let place = place(server, client, transfer)?;
    let slots = slots(transfer, passed, place)?.0;
    let by = By::Path(mode);
    Ok(Opening { by, path, ending, token, size_hint_bytes, weight, window_bytes, transfer, slots })
}

fn by_descriptor(
    server: &Server,
    client: Client,
    given: OpenGiven,
    passed: Passed,
) -> Result<Opening, Failure> {
    let OpenGiven { token, label, empties, passes_directory, .. } = given;
    let OpenGiven { size_hint_bytes, transfer, weight, window_bytes, .. } = given;
    let most = server.config().limits.label_bytes_max;
    let bad = |what: &str| {
        let message =
            format!("the label {what}; send 1 to {most} bytes (limits.label_length) without a NUL");
        Failure::new(ErrorCode::BAD_PATH, message)
    };
    if !(1..=most).contains(&label.0.len()) {
        return Err(bad("is empty or too long"));
    }
    let path = label.into_path().ok_or_else(|| bad("holds a NUL byte"))?;
    check_weight(weight)?;
    if !Descriptors::CAN_COME {
        let message = "no file can be passed to a freemkvd of this platform; open it by its path";
        return Err(Failure::new(ErrorCode::BAD_FILE, message));
    }
    let is_shared = transfer != Transfer::Inline;
    let files = if passes_directory { 3 } else { 2 };
    expect(usize::from(is_shared) + files, is_shared, &passed)?;
    let place = place(server, client, transfer)?;
    let (slots, rest) = slots(transfer, passed, place)?;
    let by = By::Descriptor { files: rest.files, empties };
    let ending = Ending::default();
    Ok(Opening { by, path, ending, token, size_hint_bytes, weight, window_bytes, transfer, slots })
}

/// The same for a `Resume`. A stream that is there goes on: where there is no place for its slots its content goes
/// inline. What came beside the slots is counted when it is known which stream it is.
///
/// # Errors
/// What to tell the client.
pub(super) fn check_resume(
    server: &Server,
    client: Client,
    from: Resume,
    passed: Passed,
) -> Result<Resuming, Failure> {
    refuse_while_draining(server)?;
    let place = take_place(server, client, from.transfer).ok().flatten();
    let (slots, rest) = slots(from.transfer, passed, place)?;
    Ok(Resuming { from, slots, rest })
}

/// Checks that what came beside the slots is a file that its client has opened.
///
/// # Errors
/// What to tell the client.
pub(super) fn a_file(rest: &Passed) -> Result<(), Failure> {
    match rest.files.count() {
        3 => Ok(()),
        _ => expect(2, false, rest),
    }
}

/// Checks that nothing came beside the slots.
///
/// # Errors
/// What to tell the client.
pub(super) fn none_beside_slots(transfer: Transfer, rest: usize) -> Result<(), Failure> {
    match (rest, transfer) {
        (0, _) => Ok(()),
        (_, Transfer::Inline) => Err(unexpected()),
        (more, Transfer::Shared { .. }) => Err(BadSlots::Descriptors(1 + more).failure()),
    }
}

/// A place for the slots among all that are shared; `None` for a stream that has none.
fn place(server: &Server, client: Client, transfer: Transfer) -> Result<Option<Place>, Failure> {
    take_place(server, client, transfer)
        .map_err(|crowded| crowd::slots(crowded, client.uid, &server.config().limits))
}

fn take_place(
    server: &Server,
    client: Client,
    transfer: Transfer,
) -> Result<Option<Place>, Crowded> {
    let count = match transfer {
        Transfer::Inline => return Ok(None),
        // More are refused, and for that.
        Transfer::Shared { slots } => slots.min(SLOTS_MAX),
    };
    let limits = &server.config().limits;
    let most = |bytes: u64| u32::try_from(bytes / u64::from(SLOT_BYTES)).unwrap_or(u32::MAX);
    let (most, most_of_user) = (most(limits.slots_bytes), most(limits.slots_per_user_bytes));
    server.slots.take_all(client.uid, count, most, most_of_user).map(Some)
}

/// The memory of shared slots, which comes first, and what comes after it. Without a place none is mapped.
fn slots(
    transfer: Transfer,
    mut passed: Passed,
    place: Option<Place>,
) -> Result<(Option<Mapped>, Passed), Failure> {
    let Transfer::Shared { slots } = transfer else {
        return Ok((None, passed));
    };
    if passed.files.count() == 0 && passed.is_cut {
        return Err(no_descriptor());
    }
    let rest = Passed { files: passed.files.split_off(1), is_cut: passed.is_cut };
    let Some(place) = place else {
        return Ok((None, rest));
    };
    let slots = Slots::offered(passed.files.first(), slots).map_err(|bad| bad.failure())?;
    Ok((slots.map(|slots| passed.files.mapped(slots.in_place(place))), rest))
}

fn expect(wanted: usize, is_shared: bool, passed: &Passed) -> Result<(), Failure> {
    let came = passed.files.count();
    if came == wanted {
        return Ok(());
    }
    if came < wanted && passed.is_cut {
        return Err(no_descriptor());
    }
    let memory = if is_shared { "the memory of the shared slots, " } else { "" };
    let message = format!(
        "{came} descriptors came where there should be {wanted}; pass {memory}the file, the same file opened once \
         more, and its directory if that was said to come"
    );
    Err(Failure::new(ErrorCode::BAD_FILE, message))
}

fn no_descriptor() -> Failure {
    let message = "freemkvd has no free descriptor for what came with the frame; raise LimitNOFILE= of its unit (or \
                   ulimit -n) and restart it, or try again later";
    Failure::new(ErrorCode::NO_RESOURCES, message)
}

fn check_weight(weight: u32) -> Result<(), Failure> {
    if WEIGHTS.contains(&weight) {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::BAD_WEIGHT, control::out_of_range(weight)))
}

fn refuse_while_draining(server: &Server) -> Result<(), Failure> {
    if server.is_draining() { Err(going_away()) } else { Ok(()) }
}
