//! Frames of both directions, in pieces.
//!
//! The input is `CONTROL`, `SIZE`..., and then the bytes of one direction. The lowest bit of `CONTROL` says who
//! sent them; the other seven how many `SIZE`s there are, the lengths in which the pieces arrive, over and over.
//!
//! Promises:
//! 1. No bytes make the decoder or the bodies' decoders panic.
//! 2. The memory that is asked for is what is left of the header, or of a body that its kind allows.
//! 3. What comes out does not depend on the pieces, and is what the specification says: compared with a reader
//!    of whole inputs that is written down here once more.
//! 4. What can be read can be written. The bytes are the same, or fewer: postcard takes a number that has
//!    leading zeros.

use freemkvd_proto::{
    Command, Decoder, FrameError, HEADER_BYTES, Header, Kind, Reply, Sender, Step,
};

/// See the module's documentation.
///
/// # Panics
/// When a promise is broken.
pub fn decoder(input: &[u8]) {
    let Some((&control, rest)) = input.split_first() else { return };
    let (sizes, bytes) = rest.split_at(usize::from(control >> 1).min(rest.len()));
    let from = if control & 1 == 0 { Sender::Client } else { Sender::Daemon };
    let whole = read_whole(from, bytes);
    assert_eq!(read_in_pieces(from, bytes, sizes), whole, "the pieces make a difference");
    for item in &whole {
        if let Item::Message(message) = item {
            check_writing(message);
        }
    }
}

/// What a side of a connection sees.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    /// A header, and how much of its content came.
    Write(Header, usize),
    Message(Message),
    /// The last one.
    Error(FrameError),
    /// The bytes end within a frame, which is the last one too.
    Cut,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    header: Header,
    body: Vec<u8>,
    read: Read,
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Command(Command),
    Reply(Reply),
}

impl Read {
    fn from(from: Sender, header: &Header, body: &[u8]) -> Result<Self, FrameError> {
        match from {
            Sender::Client => Command::decode(header, body).map(Self::Command),
            Sender::Daemon => Reply::decode(header, body).map(Self::Reply),
        }
    }

    fn encode(&self, sequence: u64) -> Result<Vec<u8>, FrameError> {
        match self {
            Self::Command(command) => command.encode(sequence),
            Self::Reply(reply) => reply.encode(sequence),
        }
    }
}

fn message(from: Sender, header: Header, body: &[u8]) -> Item {
    match Read::from(from, &header, body) {
        Ok(read) => Item::Message(Message { header, body: body.to_vec(), read }),
        Err(error) => Item::Error(error),
    }
}

/// Frame by frame, with all of the bytes at hand.
fn read_whole(from: Sender, mut bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            items.push(Item::Cut);
            break;
        };
        let header = match Header::decode(header, from) {
            Ok(header) => header,
            Err(error) => {
                items.push(Item::Error(error));
                break;
            }
        };
        let len = header.body_bytes() as usize;
        let there = len.min(rest.len());
        let (body, rest) = rest.split_at(there);
        items.push(match header.kind() {
            Kind::Write => Item::Write(header, there),
            _ if there < len => Item::Cut,
            _ => message(from, header, body),
        });
        if matches!(items.last(), Some(Item::Cut | Item::Error(_))) {
            break;
        }
        bytes = rest;
    }
    items
}

fn read_in_pieces(from: Sender, bytes: &[u8], sizes: &[u8]) -> Vec<Item> {
    let mut decoder = Decoder::new(from);
    let mut items = Vec::new();
    let mut sizes = sizes.iter().copied().map(usize::from).filter(|size| *size > 0).cycle();
    let (mut left, mut piece) = (bytes, 0);
    while !left.is_empty() {
        if piece == 0 {
            piece = sizes.next().unwrap_or(left.len());
        }
        let space = decoder.space();
        assert!(!space.is_empty(), "the decoder waits for nothing");
        assert!(space.len() <= largest_body(from), "memory for {} bytes", space.len());
        let count = space.len().min(piece).min(left.len());
        space[..count].copy_from_slice(&left[..count]);
        (left, piece) = (&left[count..], piece - count);
        match decoder.advance(count) {
            Ok(Step::More) => {}
            Ok(Step::Write(header)) => {
                let there = left.len().min(header.body_bytes() as usize);
                left = &left[there..];
                items.push(Item::Write(header, there));
            }
            Ok(Step::Control(header, body)) => items.push(message(from, header, body)),
            Err(error) => items.push(Item::Error(error)),
        }
        if let Some(Item::Error(_)) = items.last() {
            return items;
        }
    }
    if !decoder.is_between_frames() {
        items.push(Item::Cut);
    }
    items
}

fn largest_body(from: Sender) -> usize {
    let kinds = Kind::ALL.iter().filter(|kind| kind.sender() == from && **kind != Kind::Write);
    kinds.map(|kind| kind.body_bytes_max() as usize).max().unwrap_or(0)
}

fn check_writing(Message { header, body, read }: &Message) {
    let frame = read.encode(header.sequence()).expect("what was read fits a frame");
    let (head, written) = frame.split_first_chunk::<HEADER_BYTES>().expect("it has a header");
    let again = Header::decode(head, header.kind().sender()).expect("its header is one");
    assert_eq!((again.kind(), again.sequence()), (header.kind(), header.sequence()));
    assert!(written.len() <= body.len(), "it grows by being read: {read:?}");
    if written.len() == body.len() {
        assert_eq!(written, body, "{read:?}");
    }
    let reread = Read::from(header.kind().sender(), &again, written);
    assert_eq!(reread.as_ref(), Ok(read), "it changes by being written");
}
