//! The budget as a bar: how much of it each stream has dirty.

use freemkvd_proto::status::{Budget, Stream};

/// Cells of the bar that are one stream's, or nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stream: Option<u64>,
    pub(super) text: String,
}

/// The whole bar, in this many cells: the streams by number, what was granted beyond them, and what is free. Ends are
/// rounded and not lengths, so that the whole is right; but who has little gets a cell all the same.
pub(super) fn pieces(budget: &Budget, streams: &[Stream], width: usize) -> Vec<Piece> {
    let mut shares: Vec<_> = streams.iter().map(|one| (one.id, one.dirty_bytes)).collect();
    shares.sort_unstable();
    let cells = |bytes: u64| {
        let cells = u128::from(bytes) * width as u128 / u128::from(budget.limit_bytes.max(1));
        usize::try_from(cells).unwrap_or(width).min(width)
    };
    let (mut sum, mut begin) = (0_u64, 0);
    let mut pieces = Vec::new();
    for (stream, bytes) in shares {
        sum = sum.saturating_add(bytes);
        // Whoever has any is seen.
        let least = if bytes > 0 { begin + 1 } else { begin };
        let end = cells(sum).max(least).min(width);
        if end > begin {
            pieces.push(Piece { stream: Some(stream), text: named(stream, end - begin) });
            begin = end;
        }
    }
    let charged = cells(budget.charged_bytes).max(begin);
    for (text, end) in [("-", charged), (" ", width)] {
        if end > begin {
            pieces.push(Piece { stream: None, text: text.repeat(end - begin) });
            begin = end;
        }
    }
    pieces
}

/// Its number, if that has room, and the rest of the cells.
fn named(stream: u64, cells: usize) -> String {
    let number = stream.to_string();
    let number = if number.len() <= cells { number } else { String::new() };
    format!("{number:=<cells$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::stream;

    fn bar(limit_bytes: u64, charged_bytes: u64, shares: &[(u64, u64)]) -> String {
        let budget = Budget {
            limit_bytes,
            charged_bytes,
            kernel_dirty_bytes: None,
            queued_bytes: 0,
            queue_limit_bytes: 0,
        };
        let streams = shares.iter().map(|&(id, dirty_bytes)| Stream { dirty_bytes, ..stream(id) });
        let pieces = pieces(&budget, &streams.collect::<Vec<_>>(), 20);
        pieces.into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn each_has_its_part_and_the_whole_is_right() {
        assert_eq!(bar(100, 0, &[]), " ".repeat(20));
        assert_eq!(bar(100, 60, &[(14, 25), (1, 25)]), "1====14===--        ");
        // Three times a third of a cell: each is seen.
        assert_eq!(bar(300, 15, &[(1, 5), (2, 5), (3, 5), (4, 0)]), "123                 ");
        assert_eq!(bar(100, 5, &[(14, 5)]), "=                   ");
    }

    #[test]
    fn what_the_daemon_says_never_breaks_it() {
        for (limit, charged, dirty) in
            [(0, 0, 0), (0, 9, 9), (99, 1, 1), (9, u64::MAX, u64::MAX), (9, 0, 99)]
        {
            assert_eq!(bar(limit, charged, &[(1, dirty), (2, dirty)]).len(), 20);
        }
    }
}
