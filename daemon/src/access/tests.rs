//! Who may do what, as a table.

use super::*;

const DAEMON: Option<u32> = Some(77);

fn named(name: &str, id: u32) -> Named {
    Named { name: name.to_owned(), id }
}

fn peer(uid: u32, groups: &[u32]) -> Peer {
    Peer { pid: Some(1), uid: Some(uid), groups: groups.to_vec() }
}

/// `w`rite, `s`tatus, `a`dmin.
fn letters(rights: Rights) -> String {
    let all = [(rights.write, 'w'), (rights.status, 's'), (rights.admin, 'a')];
    all.into_iter().filter_map(|(has, letter)| has.then_some(letter)).collect()
}

#[test]
fn what_each_peer_may_do() {
    let open = Access::default();
    let administered = Access { admin_group: Some(named("adm", 4)), ..Access::default() };
    let users = Access { users: vec![named("arm", 1000), named("9", 9)], ..Access::default() };
    let groups = Access { groups: vec![named("freemkv", 990), named("media", 44)], ..open.clone() };
    let both = Access {
        admin_group: Some(named("adm", 4)),
        groups: groups.groups.clone(),
        ..users.clone()
    };
    let watched = Access { status_for_all: true, ..both.clone() };
    for (access, uid, gids, expected) in [
        (&open, 1000, [100].as_slice(), "ws"),
        (&open, 0, &[], "wsa"),
        (&open, 77, &[], "wsa"),
        (&administered, 1000, &[100], "ws"),
        (&administered, 1000, &[100, 4], "wsa"),
        (&users, 1000, &[], "ws"),
        (&users, 9, &[], "ws"),
        (&users, 1001, &[1000, 9], ""),
        (&users, 0, &[], "wsa"),
        (&users, 77, &[], "wsa"),
        (&groups, 1000, &[100], ""),
        (&groups, 990, &[100], ""),
        (&groups, 1000, &[990], "ws"),
        (&groups, 1000, &[100, 5, 44], "ws"),
        (&both, 1000, &[100], "ws"),
        (&both, 1001, &[44], "ws"),
        (&both, 1001, &[4], "sa"),
        (&both, 1001, &[4, 44], "wsa"),
        (&both, 1001, &[100], ""),
        (&watched, 1001, &[100], "s"),
        (&watched, 1001, &[4], "sa"),
        (&watched, 1000, &[], "ws"),
    ] {
        let found = letters(access.rights(&peer(uid, gids), DAEMON));
        assert_eq!(found, expected, "user {uid} in {gids:?}: {access:?}");
    }
}

#[test]
fn who_is_not_known_may_do_nothing() {
    let everything = Access { status_for_all: true, ..Access::default() };
    let unknown = Peer { pid: Some(1), uid: None, groups: vec![0] };
    assert_eq!(everything.rights(&unknown, DAEMON), Rights::default());
    assert!(!Rights::default().include(None, None), "nobody owns the streams of nobody");
}

#[test]
fn a_stream_is_its_owners_and_the_administrators() {
    let access = Access { admin_group: Some(named("adm", 4)), ..Access::default() };
    for (uid, groups, owner, expected) in [
        (1000, [100].as_slice(), Some(1000), true),
        (0, &[], Some(1000), true),
        (77, &[], Some(1000), true),
        (1001, &[4], Some(1000), true),
        (1001, &[4], None, true),
        (1001, &[1000], Some(1000), false),
        (1001, &[100], None, false),
    ] {
        let rights = access.rights(&peer(uid, groups), DAEMON);
        assert_eq!(rights.include(Some(uid), owner), expected, "{uid} {groups:?} {owner:?}");
    }
    let none = Rights::default();
    assert!(none.include(Some(1000), Some(1000)), "also when it may open no other");
}

#[test]
fn a_refusal_says_whom_to_ask_for_what() {
    let mut access = Access { users: vec![named("arm", 1000)], ..Access::default() };
    let said = |access: &Access| access.refusal(&peer(1001, &[]), "write").message;
    assert_eq!(
        said(&access),
        "user 1001 may not write; ask to be added to access.users in the configuration of freemkvd"
    );
    access.groups = vec![named("freemkv", 990), named("media", 44)];
    assert_eq!(
        said(&access),
        "user 1001 may not write; ask for membership in group freemkv or media, and log in again, or to be \
         added to access.users in the configuration of freemkvd"
    );
    assert_eq!(access.refusal(&peer(1001, &[]), "write").code, ErrorCode::NOT_ALLOWED);
    assert_eq!(access.administrators(), "root and the user that freemkvd runs as");
    access.admin_group = Some(named("adm", 4));
    let administrators = access.administrators();
    assert!(administrators.ends_with("and the members of group adm"), "{administrators}");
}
