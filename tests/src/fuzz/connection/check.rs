//! What has to have become of every stream of a run.
//!
//! Where nothing came in between (no error of the disk, no restart, nobody who hung up before he had read all of his
//! answers, no abort) the outcome is certain: file, content and answers. Otherwise the file has what was told to be
//! written, and of the rest as much as there was time for, in order. Streams that write the same file, or have the
//! same token, are each other's business, and only their leftovers are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use freemkvd_proto::{ErrorCode, Leftover, OpenMode, Token, partial_path as partial};

use super::asked::{Asked, Done, First, Last};
use super::choices::PLAIN_PATHS;
use super::content::{Change, Content};
use super::peer::Peer;
use super::steps::Run;

/// A stream, from its opening to the last connection that it had.
struct Life<'a> {
    token: Option<Token>,
    mode: OpenMode,
    /// What was in it goes.
    empties: bool,
    size_hint_bytes: u64,
    publish: bool,
    leftover: Leftover,
    path: PathBuf,
    /// As it is called until it is complete.
    opened_path: PathBuf,
    peers: Vec<&'a Peer>,
    /// Everything that was ever asked of it.
    done: Vec<Done>,
    last: Option<Last>,
    cut: Option<Change>,
}

pub(super) fn check(run: &Run<'_>) {
    for peer in &run.over {
        check_answers(run, peer);
    }
    let aborted: BTreeSet<u64> =
        run.over.iter().flat_map(|peer| peer.rules.aborts.iter().copied()).collect();
    let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut tokens = Vec::new();
    let mut lives: Vec<Option<Life<'_>>> = Vec::new();
    for peer in &run.over {
        let Some(asked) = &peer.rules.asked else { continue };
        if asked.is_refused() {
            assert!(peer.told.opened.is_none(), "opened: {peer:?}");
            continue;
        }
        match &asked.first {
            First::Open(_) | First::Give(_) => {
                let path = asked.path().expect("it would have been refused");
                for name in [path.clone(), partial(&path), partial(&partial(&path))] {
                    *names.entry(name).or_default() += 1;
                }
                tokens.extend(asked.token());
                lives.push(Life::begin(path, peer, asked));
            }
            First::Resume(_) => resume(&mut lives, peer, asked),
        }
    }
    for life in lives.into_iter().flatten() {
        let own = [&life.path, &partial(&life.path), &partial(&partial(&life.path))];
        let is_called_so = |token: &Token| tokens.iter().filter(|other| *other == token).count();
        let has_own_token = life.token.as_ref().is_none_or(|token| is_called_so(token) == 1);
        if has_own_token && own.iter().all(|name| names[*name] == 1) {
            life.check(run, &aborted);
        }
    }
    check_others(run, &names);
}

/// Whoever breaks a rule is told so, in the words that belong to it.
fn check_answers(run: &Run<'_>, peer: &Peer) {
    let has_heard = !peer.was_rude && !peer.was_stopped && !run.has_faults;
    let code = peer.told.failure.as_ref().map(|failure| failure.code);
    match &peer.rules.violation {
        Some(violation) if has_heard && !was_refused(peer) => {
            let code = code.unwrap_or_else(|| panic!("not told: {peer:?}"));
            // One that was given up by somebody else was told that first.
            let is_right = violation.0.is_none_or(|expected| expected == code);
            assert!(is_right || code == ErrorCode::ABORTED, "told {code:?}: {peer:?}");
        }
        Some(_) => {}
        None => {
            let is_for_nothing = code.is_some_and(is_of_wire) && !was_refused(peer);
            assert!(!is_for_nothing, "told {code:?} for nothing: {peer:?}");
        }
    }
}

fn is_of_wire(code: ErrorCode) -> bool {
    (100..200).contains(&code.0)
}

/// The answer to its first frame was no. What it sends before it has heard an answer may be wrong as well, and be
/// answered first.
fn was_refused(peer: &Peer) -> bool {
    let told = &peer.told;
    let code = told.failure.as_ref().map(|failure| failure.code);
    let violation = peer.rules.violation.as_ref();
    // What a stream goes on from may be out of range itself.
    if peer.rules.asked.as_ref().is_some_and(Asked::is_resumed) {
        return !told.is_resumed && code.is_some();
    }
    let is_later =
        violation.is_some_and(|violation| violation.0 == code || code.is_some_and(is_of_wire));
    peer.rules.asked.is_some() && told.opened.is_none() && code.is_some() && !is_later
}

/// Files that nobody has asked for.
fn check_others(run: &Run<'_>, names: &BTreeMap<PathBuf, usize>) {
    for (path, content) in run.before.iter().filter(|(path, _)| !names.contains_key(*path)) {
        let found = run.bench.disk.file(path);
        let is_same = found.is_some_and(|found| Content::of(content).is(&found));
        assert!(is_same, "{} has changed", path.display());
    }
    for path in run.bench.disk.names() {
        let is_known = run.before.contains_key(&path) || names.contains_key(&path);
        assert!(is_known, "nobody has asked for {}", path.display());
    }
}

/// A connection that goes on with a stream. What it sends again has to be what was sent before; if it is not, it is
/// the client's own fault what the file becomes.
fn resume(lives: &mut [Option<Life<'_>>], peer: &Peer, asked: &Asked) {
    let is_it = |life: &&mut Option<Life<'_>>| {
        life.as_ref().is_some_and(|life| life.token == asked.token())
    };
    let Some(life) = lives.iter_mut().find(is_it) else { return };
    let keeps = life.as_ref().is_some_and(|life| life.is_continued_by(peer, asked));
    if !keeps || !life.as_mut().is_some_and(|life| life.goes_on(asked)) {
        *life = None;
    }
}

impl<'a> Life<'a> {
    /// `None` for a file whose fate is nobody's promise.
    fn begin(path: PathBuf, peer: &'a Peer, asked: &Asked) -> Option<Self> {
        let is_plain = PLAIN_PATHS.iter().any(|plain| path.as_os_str() == *plain);
        let (mode, hint, publish, leftover) = match &asked.first {
            First::Open(file) => {
                (file.open.mode, file.open.size_hint_bytes, file.publish, file.leftover)
            }
            First::Give(open) => (OpenMode::Existing, open.size_hint_bytes, false, Leftover::Keep),
            First::Resume(_) => return None,
        };
        let empties = match &asked.first {
            First::Give(open) => open.empties,
            _ => mode == OpenMode::Create,
        };
        let opened_path = if publish { partial(&path) } else { path.clone() };
        is_plain.then(|| Self {
            token: asked.token(),
            mode,
            empties,
            size_hint_bytes: hint.unwrap_or(0),
            publish,
            leftover,
            path,
            opened_path,
            peers: vec![peer],
            done: asked.done.clone(),
            last: asked.last,
            cut: asked.cut.clone(),
        })
    }
}

impl Life<'_> {
    fn is_continued_by(&self, peer: &Peer, asked: &Asked) -> bool {
        let First::Resume(resume) = &asked.first else { return false };
        // Of one that was let in nobody else was.
        let is_let_in = peer.told.is_resumed && self.peers.len() == 1;
        let at = self.done.iter().find(|done| done.sequence == resume.written.sequence);
        let is_true = match at {
            None => resume.written.sequence == 0 && resume.position == 0,
            Some(done) => (done.position, done.content) == (resume.position, resume.written.bytes),
        };
        is_let_in && is_true
    }

    /// False when it is told something else than before.
    fn goes_on(&mut self, asked: &Asked) -> bool {
        for done in &asked.done {
            match self.done.iter().find(|old| old.sequence == done.sequence) {
                Some(old) if old == done => {}
                Some(_) => return false,
                None if self.cut.is_some() => return false,
                None => self.done.push(done.clone()),
            }
        }
        self.last = asked.last.or(self.last);
        // The rest of it is not looked at: it was cut off by a restart.
        true
    }

    fn check(&self, run: &Run<'_>, aborted: &BTreeSet<u64>) {
        let peer = self.peers[0];
        let told = &peer.told;
        let is_calm = !run.has_faults && !peer.was_rude && !peer.was_stopped;
        if was_refused(peer) {
            // It has no number yet, so it may be any that was to be aborted.
            let may_be_aborted = self.last == Some(Last::Abort) || !aborted.is_empty();
            let is_for_nothing = is_calm && !may_be_aborted && self.has_to_open(run);
            assert!(!is_for_nothing, "refused: {:?}", told.failure);
            assert!(run.has_faults || self.is_untouched(run), "refused and changed: {peer:?}");
            return;
        }
        if told.opened.is_none() && (run.has_faults || self.is_untouched(run)) {
            // It has hung up before it was answered.
            return;
        }
        assert!(run.has_faults || self.may_open(run), "opened: {peer:?}");
        let finished = told.finished.or_else(|| {
            run.over.iter().find_map(|other| {
                let is_same = other
                    .rules
                    .asked
                    .as_ref()?
                    .token()
                    .is_some_and(|token| Some(token) == self.token);
                other.told.finished.filter(|_| is_same)
            })
        });
        if let Some(finished) = finished {
            assert!(self.last == Some(Last::Finish) && self.cut.is_none(), "finished: {peer:?}");
            let content = self.content(run);
            self.check_file(run, &self.path, &content);
            assert_eq!(Some(finished.len_bytes), self.found(run, &self.path), "{peer:?}");
            return;
        }
        let is_given_up = told.opened.is_none_or(|opened| aborted.contains(&opened.stream));
        let is_aborted = self.last == Some(Last::Abort) || is_given_up;
        match is_calm && !is_aborted {
            true => self.check_certain(run),
            false => self.check_on_the_way(run),
        }
    }

    /// Nothing came in between, and it was not finished.
    fn check_certain(&self, run: &Run<'_>) {
        let peer = self.peers[0];
        let content = self.content(run);
        if self.last == Some(Last::Finish) {
            let code = peer.told.failure.as_ref().map(|failure| failure.code);
            assert!(
                code == Some(ErrorCode::NOT_PUBLISHED) && self.is_name_taken(run),
                "not finished: {peer:?}"
            );
            return self.check_file(run, &self.opened_path, &content);
        }
        if self.cut.is_some() {
            return self.check_on_the_way(run);
        }
        match self.leftover {
            Leftover::Keep => self.check_file(run, &self.opened_path, &content),
            Leftover::Partial => {
                let name = partial(&self.path);
                let replaces = self.mode == OpenMode::Create;
                let is_taken = !self.publish && !replaces && run.before.contains_key(&name);
                let is_partial = self.path.to_string_lossy().ends_with(freemkvd_proto::PARTIAL);
                let stays = is_taken || is_partial && !self.publish;
                self.check_file(run, if stays { &self.opened_path } else { &name }, &content);
            }
            Leftover::Remove => {
                assert!(self.found(run, &self.opened_path).is_none(), "not removed: {peer:?}");
            }
        }
    }

    /// Something came in between: so much is there as was written by then, and it was told how much at least.
    fn check_on_the_way(&self, run: &Run<'_>) {
        let names = [self.opened_path.clone(), self.path.clone(), partial(&self.path)];
        let found: Vec<_> = names.iter().filter_map(|name| run.bench.disk.file(name)).collect();
        if found.is_empty() {
            assert!(self.leftover == Leftover::Remove, "gone: {:?}", self.peers[0]);
            return;
        }
        let told = self.peers.iter().map(|peer| peer.told.progress.written.sequence).max();
        let told = told.unwrap_or(0);
        let mut before = self.at_opening(run);
        let mut is_it = told == 0 && run.has_faults && {
            // Not yet emptied.
            let old = self.before(run);
            found.iter().any(|found| old.is_on_the_way_to(&before, found))
        };
        let changes = self.done.iter().map(|done| (done.sequence, &done.change));
        let cut = self.cut.iter().map(|change| (u64::MAX, change));
        for (sequence, change) in changes.chain(cut) {
            let mut after = before.clone();
            after.apply(change);
            if sequence > told {
                is_it |= found.iter().any(|found| before.is_on_the_way_to(&after, found));
            }
            before = after;
        }
        if self.cut.is_none() {
            is_it |= found.iter().any(|found| before.is(found));
        }
        assert!(is_it || self.leftover == Leftover::Remove, "content: {:?}", self.peers[0]);
    }

    /// What its file had in it before anybody came.
    fn before(&self, run: &Run<'_>) -> Content {
        run.before.get(&self.opened_path).map(|bytes| Content::of(bytes)).unwrap_or_default()
    }

    fn at_opening(&self, run: &Run<'_>) -> Content {
        if self.empties { Content::default() } else { self.before(run) }
    }

    /// After all that was asked of it.
    fn content(&self, run: &Run<'_>) -> Content {
        let mut content = self.at_opening(run);
        self.done.iter().for_each(|done| content.apply(&done.change));
        content
    }

    fn is_name_taken(&self, run: &Run<'_>) -> bool {
        let replaces = self.mode == OpenMode::Create;
        self.publish && !replaces && run.before.contains_key(&self.path)
    }

    /// Whether the file that there was lets it be opened.
    fn may_open(&self, run: &Run<'_>) -> bool {
        let exists = run.before.contains_key(&self.opened_path);
        match self.mode {
            OpenMode::Create => true,
            OpenMode::Existing => exists,
            OpenMode::CreateNew => !exists && !self.is_name_taken(run),
        }
    }

    /// There is no reason to refuse it: a hint may be one.
    fn has_to_open(&self, run: &Run<'_>) -> bool {
        let fits = self.size_hint_bytes < super::bench::CAPACITY_BYTES / 2;
        self.may_open(run) && fits
    }

    fn is_untouched(&self, run: &Run<'_>) -> bool {
        [&self.path, &partial(&self.path)].into_iter().all(|name| {
            match (&run.bench.disk.file(name), run.before.get(name)) {
                (Some(found), Some(before)) => Content::of(before).is(found),
                (found, before) => found.is_none() && before.is_none(),
            }
        })
    }

    fn check_file(&self, run: &Run<'_>, name: &Path, content: &Content) {
        let found = run.bench.disk.file(name);
        let found = found.unwrap_or_else(|| panic!("no {}: {:?}", name.display(), self.peers[0]));
        assert!(content.is(&found), "{} is wrong: {:?}", name.display(), self.peers[0]);
    }

    fn found(&self, run: &Run<'_>, name: &Path) -> Option<u64> {
        run.bench.disk.file(name).map(|file| file.len_bytes())
    }
}
