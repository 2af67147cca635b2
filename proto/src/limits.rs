//! Every maximum of the wire, in one place, with the reason for its size.

/// Largest body of a `Write`, in bytes. libfreemkv's muxers write at most about 4 MiB at once, and a
/// queue of 32 MiB still holds several of them.
pub const WRITE_BYTES_MAX: u32 = 4 << 20;

/// Length of a shared slot in bytes. A slot is the unit in which a client reuses memory: below 256 KiB
/// the frames begin to cost more than their content, and beyond 1 MiB no file system gets faster.
pub const SLOT_BYTES: u32 = 1 << 20;

/// Most shared slots of one stream: 1 GiB. They cost the daemon addresses, and no memory as long as the
/// client writes to them first: a page that nobody has written to is allocated by whoever reads it. So a daemon
/// bounds all of them together, too.
pub const SLOTS_MAX: u32 = 1024;

/// Most parts of a `WriteSlots`: a range of 4 MiB touches five slots when it begins inside of one, and
/// short leftovers may come between.
pub const SLOT_PARTS_MAX: usize = 16;

/// The weight of a stream that asks for none. Streams of one device share its speed by weight.
pub const WEIGHT_DEFAULT: u32 = 100;

/// Lowest and highest weight. Tenfold either way is as much as a share can mean beside the floor that
/// every stream has; within it a decision takes a bounded number of rounds.
pub const WEIGHTS: std::ops::RangeInclusive<u32> = 10..=1000;

/// Largest body of any other command, in bytes: a path and a handful of numbers.
pub const CONTROL_BYTES_MAX: u32 = 16 << 10;

/// Largest body of an answer, in bytes: a status report of more than 4000 streams.
pub const REPLY_BYTES_MAX: u32 = 4 << 20;

/// Longest path in bytes, `PATH_MAX` of Linux without its final NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// Longest label of a file that comes with its stream, in bytes: it usually is a path.
pub const LABEL_BYTES_MAX: usize = PATH_BYTES_MAX;

/// Most descriptors that come with a first frame: memory of shared slots, a file twice, its directory.
pub const DESCRIPTORS_MAX: usize = 4;

/// Highest file offset plus one: `off_t` is signed on every platform served.
pub const OFFSET_MAX: u64 = i64::MAX as u64;

const _: () = assert!(SLOT_BYTES <= WRITE_BYTES_MAX, "a whole slot must fit a frame");
const _: () = assert!(PATH_BYTES_MAX < CONTROL_BYTES_MAX as usize, "an Open must fit its frame");
