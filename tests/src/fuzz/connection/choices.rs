//! What the input chooses: commands that are mostly what somebody might send, with everything else among them.

use arbitrary::{Result, Unstructured};
use freemkvd_proto::limits::{OFFSET_MAX, PATH_BYTES_MAX, SLOT_BYTES, WEIGHT_DEFAULT};
use freemkvd_proto::{
    Command, Leftover, Open, OpenFile, OpenGiven, OpenMode, OpenResumable, Seek, SetLen, SlotPart,
    Token, Transfer, WirePath, WriteZeroes,
};

use super::bench::CAPACITY_BYTES;
use super::given::{Given, SLOTS};

/// What files are called. The rules of names that a check knows are those of the first.
pub(super) const PLAIN_PATHS: [&str; 5] =
    ["/rips/a", "/rips/b", "/rips/c", "/rips/d/e", "/rips/a.partial"];
const ODD_PATHS: [&str; 8] =
    ["/rips", "/", "", "rips/a", "/rips/../a", "/elsewhere/a", "/rips/a\0b", "/rips/a/"];

/// A command that opens a stream, which may be resumed by `token`.
pub(super) fn opening(input: &mut Unstructured<'_>, token: Token) -> Result<Command> {
    let path = WirePath(match input.arbitrary::<u8>()? {
        number @ 0..240 => PLAIN_PATHS[usize::from(number) % PLAIN_PATHS.len()].as_bytes().to_vec(),
        number @ 240..250 => ODD_PATHS[usize::from(number) % ODD_PATHS.len()].as_bytes().to_vec(),
        250..253 => {
            let len = PATH_BYTES_MAX - 1 + usize::from(input.arbitrary::<u8>()? % 4);
            let mut path = vec![b'x'; len];
            path[..6].copy_from_slice(b"/rips/");
            path
        }
        _ => {
            let len = input.arbitrary::<u8>()? % 32;
            input.bytes(usize::from(len).min(input.len()))?.to_vec()
        }
    });
    let mode = [OpenMode::Create, OpenMode::CreateNew, OpenMode::Existing];
    let mode = mode[usize::from(input.arbitrary::<u8>()?) % 3];
    let size_hint_bytes = match input.arbitrary::<u8>()? {
        0..224 => None,
        224..240 => Some(u64::from(input.arbitrary::<u16>()?)),
        _ => Some(input.int_in_range(0..=2 * CAPACITY_BYTES)?),
    };
    let transfer = match input.arbitrary::<u8>()? {
        0..180 => Transfer::Inline,
        180..250 => Transfer::Shared { slots: SLOTS },
        _ => Transfer::Shared { slots: input.arbitrary()? },
    };
    let weight = if input.arbitrary::<u8>()? < 250 { WEIGHT_DEFAULT } else { input.arbitrary()? };
    let window_bytes = match input.arbitrary::<u8>()? {
        0..200 => None,
        200..250 => Some(0),
        _ => Some(input.arbitrary()?),
    };
    let open = Open { path, mode, size_hint_bytes, transfer, weight, window_bytes };
    Ok(match input.arbitrary::<u8>()? % 8 {
        0..3 => Command::Open(open),
        3 => Command::OpenResumable(OpenResumable { token, open }),
        4 => {
            let Open { path: label, size_hint_bytes, transfer, weight, window_bytes, .. } = open;
            Command::OpenGiven(OpenGiven {
                token: input.arbitrary::<bool>()?.then_some(token),
                label,
                empties: input.arbitrary()?,
                passes_directory: input.arbitrary()?,
                size_hint_bytes,
                transfer,
                weight,
                window_bytes,
            })
        }
        _ => {
            let leftover = [Leftover::Keep, Leftover::Partial, Leftover::Remove];
            Command::OpenFile(OpenFile {
                token: input.arbitrary::<bool>()?.then_some(token),
                open,
                publish: input.arbitrary()?,
                leftover: leftover[usize::from(input.arbitrary::<u8>()?) % 3],
            })
        }
    })
}

/// What belongs to that command.
pub(super) fn descriptors_of(command: &Command) -> Vec<Given> {
    let (transfer, files) = match command {
        Command::Open(open) => (open.transfer, 0),
        Command::OpenResumable(open) => (open.open.transfer, 0),
        Command::OpenFile(open) => (open.open.transfer, 0),
        Command::OpenGiven(open) => (open.transfer, if open.passes_directory { 3 } else { 2 }),
        _ => return Vec::new(),
    };
    let slots = (transfer != Transfer::Inline).then_some(Given::Slots);
    slots
        .into_iter()
        .chain([Given::File, Given::File, Given::Directory].into_iter().take(files))
        .collect()
}

/// Parts of shared slots, mostly of such that there are.
pub(super) fn parts(input: &mut Unstructured<'_>) -> Result<Vec<SlotPart>> {
    let count = match input.arbitrary::<u8>()? {
        0..200 => 1,
        200..250 => input.int_in_range(2..=4)?,
        _ => input.int_in_range(0..=17)?,
    };
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(if input.arbitrary::<u8>()? < 250 {
            let slot = input.int_in_range(0..=SLOTS - 1)?;
            let start = input.int_in_range(0..=SLOT_BYTES - 1)?;
            let most = (SLOT_BYTES - start).min(if count == 1 { SLOT_BYTES } else { 9000 });
            SlotPart { slot, start, len: input.int_in_range(1..=most)? }
        } else {
            SlotPart {
                slot: input.arbitrary()?,
                start: input.arbitrary()?,
                len: input.arbitrary()?,
            }
        });
    }
    Ok(parts)
}

/// A command without content, for a stream that is open.
pub(super) fn of_stream(input: &mut Unstructured<'_>) -> Result<Command> {
    Ok(match input.arbitrary::<u8>()? % 16 {
        0..3 => Command::Seek(Seek { offset: offset(input)? }),
        3..5 => Command::WriteZeroes(WriteZeroes { len: offset(input)? }),
        5..8 => Command::SetLen(SetLen { len: offset(input)? }),
        8..10 => Command::Flush,
        10..12 => Command::Sync,
        12..15 => Command::Finish,
        _ => Command::Abort,
    })
}

/// Somewhere in a file: mostly where something is.
pub(super) fn offset(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.arbitrary::<u8>()? {
        0..80 => input.arbitrary::<u8>()?.into(),
        80..200 => input.arbitrary::<u16>()?.into(),
        200..230 => u64::from(input.arbitrary::<u32>()?) % (8 << 20),
        230..240 => OFFSET_MAX - u64::from(input.arbitrary::<u16>()?),
        240..250 => OFFSET_MAX.saturating_add(input.arbitrary::<u8>()?.into()),
        _ => input.arbitrary()?,
    })
}
