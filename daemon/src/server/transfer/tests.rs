//! What a stream that is refused leaves in the server: nothing.

use freemkvd_proto::limits::WEIGHT_DEFAULT;
use freemkvd_proto::{OpenMode, Transfer};

use super::*;
use crate::config::{Config, Limits};
use crate::descriptors::Table;
use crate::ledger::Ledger;
use crate::storage::Disk;
use crate::writer::{By, Ending};

fn server(table: Arc<Table>) -> Arc<Server> {
    let limits = Limits { streams_max: 1, ..Limits::default() };
    let config = Config { limits, queue_total_bytes: 1 << 20, ..Config::default() };
    Server::new(config, Arc::new(Disk), Ledger::default(), table)
}

fn ask(server: &Server) -> Failure {
    let opening = Opening {
        by: By::Path(OpenMode::Create),
        path: "/rips/film".into(),
        ending: Ending::default(),
        token: None,
        size_hint_bytes: None,
        weight: WEIGHT_DEFAULT,
        window_bytes: None,
        transfer: Transfer::Inline,
        slots: None,
    };
    begin(server, Client::default(), opening, || {}).err().unwrap()
}

#[test]
fn what_was_refused_for_want_of_memory_is_forgotten() {
    let table = Table::new(None, 0);
    let server = server(Arc::clone(&table));
    let all = Queue::new(Arc::clone(&server.queues), None);
    assert!(all.reserve().is_ok());
    for _ in 0..3 {
        let failure = ask(&server);
        assert_eq!(failure.code, ErrorCode::NO_RESOURCES, "{failure:?}");
        assert!(failure.message.contains("no memory"), "{failure:?}");
        assert!(server.streams.all().is_empty());
        assert!(server.queues.is_enough(), "its part of the total is free again");
        assert_eq!(table.claimed(), 0);
    }
}

#[test]
fn what_was_refused_for_want_of_descriptors_is_forgotten() {
    let table = Table::new(Some(40), 10);
    let server = server(Arc::clone(&table));
    let failure = ask(&server);
    assert_eq!(failure.code, ErrorCode::NO_RESOURCES, "{failure:?}");
    assert!(failure.message.contains("it may have 40 open files"), "{failure:?}");
    assert!(server.streams.all().is_empty());
    assert_eq!(table.claimed(), 0);
}
