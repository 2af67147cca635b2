//! Room, order and waiting of one queue.

use std::ops::Range;

use super::segment::{ALIGNED_BYTES_MIN, ALIGNMENT};
use super::*;

const MIB: u64 = 1 << 20;

fn queue(limit_bytes: u64) -> Queue {
    Queue::new(Queues::new(limit_bytes, 64 * MIB), None)
}

fn fill(segment: &mut Segment, len: usize) {
    let end = segment.len() + len;
    while segment.len() < end {
        segment.space(end - segment.len()).fill(1);
    }
}

fn write(queue: &Queue, offset: u64, len: usize) -> Result<(), Room> {
    let mut segment = match queue.take_tail(offset, len) {
        Some(tail) => tail,
        None => queue.new_segment(offset, len)?,
    };
    fill(&mut segment, len);
    queue.push_segment(segment);
    Ok(())
}

fn pop(queue: &Queue) -> Option<Range<u64>> {
    match queue.pop(Some(Duration::ZERO)) {
        Next::Job(job) => {
            let Job::Write(segment) = &job else {
                return None;
            };
            let range = segment.range();
            queue.done(job);
            Some(range)
        }
        _ => None,
    }
}

#[test]
fn small_writes_grow_into_whole_segments_and_gaps_do_not() {
    let queue = queue(8 * MIB);
    let mut at = 0;
    while at < 3 * MIB {
        write(&queue, at, 512).unwrap();
        at += 512;
    }
    write(&queue, 100 * MIB, 8).unwrap();
    let sizes: Vec<_> =
        std::iter::from_fn(|| pop(&queue)).map(|range| range.end - range.start).collect();
    assert_eq!(sizes[..4], [4 << 10, 16 << 10, 64 << 10, 256 << 10]);
    assert_eq!(sizes[4..6], [MIB, MIB]);
    assert_eq!(sizes.last(), Some(&8));
    assert_eq!(sizes.iter().sum::<u64>(), 3 * MIB + 8);
}

#[test]
fn a_full_queue_refuses_until_the_writer_is_done() {
    let queue = queue(2 * MIB);
    for at in 0..2 {
        write(&queue, at * MIB, SEGMENT_BYTES).unwrap();
    }
    assert_eq!(write(&queue, 2 * MIB, SEGMENT_BYTES), Err(Room::Full));
    let Next::Job(job) = queue.pop(None) else { panic!("no job") };
    assert_eq!(write(&queue, 2 * MIB, SEGMENT_BYTES), Err(Room::Full), "it is being written");
    queue.done(job);
    assert_eq!(write(&queue, 2 * MIB, SEGMENT_BYTES), Ok(()));
}

#[test]
fn commands_without_content_are_bounded_too() {
    let queue = queue(MIB);
    let mut count = 0;
    while queue.charge_command() == Room::Granted {
        queue.push_command(Job::Flush { sequence: 1 });
        count += 1;
    }
    assert_eq!(count, MIB / COMMAND_BYTES);
}

#[test]
fn many_streams_share_the_total() {
    let queues = Queues::new(32 * MIB, 64 * MIB);
    let open: Vec<_> = (0..4).map(|_| Queue::new(Arc::clone(&queues), None)).collect();
    assert_eq!(open[3].limit_bytes(), 16 * MIB);
    drop(open);
    let open: Vec<_> = (0..200).map(|_| Queue::new(Arc::clone(&queues), None)).collect();
    assert_eq!(open[199].limit_bytes(), MIB);
    drop(open);
    assert_eq!(Queue::new(queues, None).limit_bytes(), 32 * MIB);
}

fn queues_of(queues: &Arc<Queues>, user: u32, count: usize) -> Vec<Queue> {
    (0..count).map(|_| Queue::new(Arc::clone(queues), Some(crate::user::of_test(user)))).collect()
}

#[test]
fn users_share_the_total_before_their_streams_do() {
    let queues = Queues::new(32 * MIB, 74 * MIB);
    let many = queues_of(&queues, 1000, 9);
    assert_eq!(many[0].limit_bytes(), 74 * MIB / 9, "who is alone has all of it");
    let one = queues_of(&queues, 1001, 1);
    // A segment for each of ten, and of the 64 MiB left the half for each user.
    assert_eq!(many[8].limit_bytes(), MIB + 32 * MIB / 9);
    assert_eq!(one[0].limit_bytes(), 32 * MIB);
    let all = many.iter().chain(&one).map(Queue::limit_bytes).sum::<u64>();
    assert!(all <= 74 * MIB, "{all}");
    one[0].close();
    assert_eq!(many[0].limit_bytes(), 74 * MIB / 9, "the other one has ended");
    drop(many);
    assert!(lock(&queues.users).is_empty(), "nobody is remembered for ever");
}

#[test]
fn whatever_comes_together_the_total_is_kept() {
    for (ours, theirs, others) in [(1, 1, 1), (40, 1, 0), (60, 3, 1), (20, 20, 24), (64, 0, 0)] {
        let queues = Queues::new(32 * MIB, 64 * MIB);
        let open = [(1, ours), (2, theirs), (3, others)].map(|(id, n)| queues_of(&queues, id, n));
        let all = open.iter().flatten().map(Queue::limit_bytes).sum::<u64>();
        assert!(all <= 64 * MIB, "{ours} {theirs} {others}: {all}");
        assert!(open.iter().flatten().all(|queue| queue.limit_bytes() >= MIB));
    }
}

#[test]
fn a_user_has_no_more_than_one_may_and_the_next_has_as_much() {
    let queues = Queues::new(32 * MIB, 64 * MIB);
    queues.set_user_limit(3 * MIB);
    let ours = queues_of(&queues, 1000, 2);
    assert_eq!(ours[0].limit_bytes(), 3 * MIB / 2);
    let third = queues_of(&queues, 1000, 1);
    assert!(ours.iter().chain(&third).all(|queue| queue.reserve().is_ok()), "a segment for each");
    let fourth = queues_of(&queues, 1000, 1);
    assert_eq!(fourth[0].reserve(), Err(Lacking::PartOfUser));
    drop(fourth);
    assert_eq!(queues_of(&queues, 1001, 1)[0].limit_bytes(), 3 * MIB, "another user");
    drop(third);
    assert_eq!(queues_of(&queues, 1000, 1)[0].reserve(), Ok(()), "its place is free again");
}

#[test]
fn an_abort_drops_what_is_queued_and_an_end_does_not() {
    let queue = queue(8 * MIB);
    write(&queue, 0, 8).unwrap();
    queue.end(End::ClientGone);
    assert_eq!(write(&queue, 0, 8), Err(Room::Closed));
    assert!(matches!(queue.pop(None), Next::Job(_)));
    assert!(matches!(queue.pop(None), Next::End(End::ClientGone)));

    let queue = self::queue(8 * MIB);
    write(&queue, 0, 8).unwrap();
    queue.end(End::Aborted(2));
    assert!(matches!(queue.pop(None), Next::End(End::Aborted(2))));
}

#[test]
fn nothing_leaves_a_paused_queue_until_it_goes_on_or_ends() {
    let queue = queue(8 * MIB);
    queue.pause(true);
    write(&queue, 0, 8).unwrap();
    assert!(matches!(queue.pop(None), Next::Paused), "and nobody waits for that");
    // Nor is anything gathered for a turn that is not to come.
    queue.gather(MIB, Duration::from_secs(3600));
    queue.pause(false);
    queue.wait_while_paused();
    assert!(matches!(queue.pop(None), Next::Job(_)));
    for (end, drops) in [(End::ClientGone, false), (End::GoingAway, false), (End::Aborted(1), true)]
    {
        let queue = self::queue(8 * MIB);
        queue.pause(true);
        write(&queue, 0, 8).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| queue.end(end));
            queue.wait_while_paused();
        });
        assert_eq!(matches!(queue.pop(None), Next::Job(_)), !drops, "{end:?}");
        assert!(matches!(queue.pop(None), Next::End(other) if other == end));
    }
}

fn slots(offset: u64, len: u64) -> Job {
    Job::WriteSlots(SlotsWrite { offset, parts: vec![0..len], sequence: 1, content_bytes: len })
}

#[test]
fn content_of_both_kinds_is_counted_while_it_is_queued() {
    let queue = queue(8 * MIB);
    write(&queue, 0, 100).unwrap();
    write(&queue, 100, 50).unwrap();
    assert_eq!(queue.charge_slots(4 * MIB, 8 * MIB), Room::Granted);
    queue.push_command(slots(150, 4 * MIB));
    assert_eq!(queue.charge_command(), Room::Granted);
    queue.push_command(Job::Flush { sequence: 2 });
    assert_eq!(queue.queued_bytes(), 4 * MIB + 150);
    assert_eq!(pop(&queue), Some(0..150));
    assert_eq!(queue.queued_bytes(), 4 * MIB);
    queue.close();
    assert_eq!(queue.queued_bytes(), 0);
}

#[test]
fn no_more_is_taken_of_shared_slots_than_there_are() {
    let queue = queue(8 * MIB);
    for offset in 0..2 {
        assert_eq!(queue.charge_slots(4 * MIB, 8 * MIB), Room::Granted);
        queue.push_command(slots(offset * 4 * MIB, 4 * MIB));
    }
    assert_eq!(queue.charge_slots(1, 8 * MIB), Room::Full);
    let Next::Job(job) = queue.pop(None) else { panic!("no job") };
    assert_eq!(queue.charge_slots(1, 8 * MIB), Room::Full, "it is being written");
    queue.done(job);
    assert_eq!(queue.charge_slots(4 * MIB, 8 * MIB), Room::Granted);
    // One always fits.
    let queue = self::queue(8 * MIB);
    assert_eq!(queue.charge_slots(4 * MIB, MIB), Room::Granted);
    assert_eq!(queue.charge_slots(1, MIB), Room::Full);
    queue.end(End::ClientGone);
    assert_eq!(queue.charge_slots(1, MIB), Room::Closed);
}

#[test]
fn larger_segments_begin_at_a_page_and_small_ones_take_no_more_than_they_are() {
    let queue = queue(8 * MIB);
    for round in 0..2 {
        for len in [ALIGNED_BYTES_MIN, SEGMENT_BYTES] {
            let mut segment = queue.new_segment(7, len).unwrap();
            fill(&mut segment, len);
            assert_eq!(segment.content().as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(segment.memory.capacity(), len + ALIGNMENT, "round {round}");
            assert_eq!(segment.range(), 7..7 + len as u64);
            segment.truncate(5);
            assert_eq!(segment.content(), [1; 5]);
            queue.done(Job::Write(segment));
        }
    }
    let small = queue.new_segment(0, 8).unwrap();
    assert_eq!((small.skip, small.memory.capacity()), (0, SEGMENT_BYTES_MIN));
}

/// True when the writer would have waited for more.
fn waits(queue: &Queue, bytes: u64) -> bool {
    let begun = Instant::now();
    queue.gather(bytes, Duration::from_millis(600));
    begun.elapsed() >= Duration::from_millis(300)
}

#[test]
fn the_writer_gathers_until_there_is_enough_or_somebody_waits() {
    let queue = queue(4 * MIB);
    write(&queue, 0, SEGMENT_BYTES).unwrap();
    assert!(!waits(&queue, MIB), "there is enough");
    assert!(waits(&queue, MIB + 1));
    assert!(!waits(&queue, MIB + 1), "the oldest has waited long enough");

    let queue = self::queue(4 * MIB);
    write(&queue, 0, SEGMENT_BYTES).unwrap();
    assert_eq!(queue.charge_command(), Room::Granted);
    queue.push_command(Job::Sync { sequence: 2 });
    assert!(!waits(&queue, 2 * MIB), "a sync");

    let queue = self::queue(MIB);
    write(&queue, 0, SEGMENT_BYTES).unwrap();
    assert_eq!(write(&queue, MIB, 1), Err(Room::Full));
    assert!(!waits(&queue, 2 * MIB), "no room");

    let queue = self::queue(4 * MIB);
    write(&queue, 0, SEGMENT_BYTES).unwrap();
    queue.end(End::ClientGone);
    assert!(!waits(&queue, 2 * MIB), "an end");
    queue.close();
    assert!(!waits(&queue, 2 * MIB), "closed");
}

#[test]
fn what_comes_meanwhile_ends_the_gathering() {
    let queue = queue(4 * MIB);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let gathering = scope.spawn(|| queue.gather(2 * MIB, Duration::from_secs(60)));
        write(&queue, 0, SEGMENT_BYTES).unwrap();
        write(&queue, MIB, SEGMENT_BYTES).unwrap();
        gathering.join().unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn without_memory_a_queue_goes_on_with_the_segment_of_its_own() {
    let queues = Queues::new(8 * MIB, 8 * MIB);
    let mut own = Own::default();
    // More than any system has.
    let absurd = isize::MAX as usize / 2;
    assert!(queues.take_memory(absurd, &mut own).is_none(), "it was not asked for");
    assert!(own.allocate());
    let memory = queues.take_memory(absurd, &mut own).unwrap();
    assert!(memory.capacity() >= SEGMENT_BYTES);
    assert!(queues.take_memory(absurd, &mut own).is_none(), "there is only one");
    queues.give_memory(Segment::new(0, memory, SEGMENT_BYTES_MIN), &mut own);
    assert!(queues.take_memory(absurd, &mut own).is_some(), "it came back");
}

#[test]
fn there_are_no_more_queues_than_the_total_has_segments_for() {
    let queues = Queues::new(8 * MIB, 3 * MIB);
    let open: Vec<_> = (0..3).map(|_| Queue::new(Arc::clone(&queues), None)).collect();
    assert!(open.iter().all(|queue| queue.reserve().is_ok()));
    let more = Queue::new(Arc::clone(&queues), None);
    assert!(more.reserve() == Err(Lacking::Memory));
    drop(open);
    assert!(more.reserve().is_ok());
}
