//! How many of a thing are taken, by each user and in all: connections, and slots that clients share.
//!
//! 1. No user has more than its limit, and all together no more than theirs, whatever the order.
//! 2. A place is free again when it is dropped, and a user who has none is forgotten.
//! 3. Who takes several gets all of them or none.
//! 4. Nobody is exempt. The limits of a user keep one program that goes wrong from taking what all others
//!    need, and it is as likely to be root's: in most containers everybody is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::user::UserId;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_user: BTreeMap<UserId, u32>,
}

/// One of them, or several that are taken together.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    user: Option<UserId>,
    count: u32,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// All are taken.
    InAll,
    /// The user has as many as one may have.
    ForUser,
}

impl Places {
    /// A place for `user`, of `most` in all and `most_of_user`. Where the platform has no users, only the
    /// first counts.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn take(
        self: &Arc<Self>,
        user: Option<UserId>,
        most: u32,
        most_of_user: u32,
    ) -> Result<Place, Crowded> {
        self.take_all(user, 1, most, most_of_user)
    }

    /// The same for `count` of them.
    ///
    /// # Errors
    /// [`Crowded`]; then none was taken.
    pub fn take_all(
        self: &Arc<Self>,
        user: Option<UserId>,
        count: u32,
        most: u32,
        most_of_user: u32,
    ) -> Result<Place, Crowded> {
        let mut taken = self.lock();
        let of_user = user.map_or(0, |user| taken.by_user.get(&user).copied().unwrap_or(0));
        let fits = |there: u32, most: u32| there.checked_add(count).is_some_and(|all| all <= most);
        if !fits(taken.all, most) {
            return Err(Crowded::InAll);
        }
        if user.is_some() && !fits(of_user, most_of_user) {
            return Err(Crowded::ForUser);
        }
        taken.all += count;
        if let Some(user) = user {
            taken.by_user.insert(user, of_user + count);
        }
        Ok(Place { places: Arc::clone(self), user, count })
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It turns out to be `user`'s, who may have `most_of_user`. The same as before is no news.
    ///
    /// # Errors
    /// [`Crowded::ForUser`]; then it is as it was.
    pub fn belongs_to(&mut self, user: Option<UserId>, most_of_user: u32) -> Result<(), Crowded> {
        let (Some(known), None) = (user, self.user) else { return Ok(()) };
        let mut taken = self.places.lock();
        let of_user = taken.by_user.entry(known).or_default();
        if *of_user + self.count > most_of_user {
            if *of_user == 0 {
                taken.by_user.remove(&known);
            }
            return Err(Crowded::ForUser);
        }
        *of_user += self.count;
        drop(taken);
        self.user = user;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= self.count;
        if let Some(user) = self.user {
            match taken.by_user.get_mut(&user) {
                Some(count) if *count > self.count => *count -= self.count,
                _ => drop(taken.by_user.remove(&user)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::of_test;

    fn fill(places: &Arc<Places>, user: Option<UserId>) -> (Vec<Place>, Crowded) {
        let mut taken = Vec::new();
        loop {
            match places.take(user, 10, 4) {
                Ok(place) => taken.push(place),
                Err(crowded) => return (taken, crowded),
            }
        }
    }

    #[test]
    fn as_many_as_a_user_may_have_and_one_more_when_one_is_free() {
        let places = Arc::new(Places::default());
        let (mut ours, crowded) = fill(&places, Some(of_test(1000)));
        assert_eq!((ours.len(), crowded), (4, Crowded::ForUser));
        let (theirs, crowded) = fill(&places, Some(of_test(1001)));
        assert_eq!((theirs.len(), crowded), (4, Crowded::ForUser), "another user has its own");
        ours.pop();
        let (again, crowded) = fill(&places, Some(of_test(1000)));
        assert_eq!((again.len(), crowded), (1, Crowded::ForUser));
    }

    #[test]
    fn as_many_as_there_are_in_all_and_one_more_when_one_is_free() {
        let places = Arc::new(Places::default());
        let mut taken: Vec<_> =
            (0..10).map(|user| places.take(Some(of_test(user)), 10, 4)).collect();
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(places.take(Some(of_test(99)), 10, 4).unwrap_err(), Crowded::InAll);
        taken.pop();
        assert!(places.take(Some(of_test(99)), 10, 4).is_ok());
        drop(taken);
        assert_eq!(places.taken(), 0);
        assert!(places.lock().by_user.is_empty(), "nobody is remembered for ever");
    }

    #[test]
    fn several_are_taken_up_to_the_edge_or_not_at_all() {
        let places = Arc::new(Places::default());
        let take = |user, count| places.take_all(Some(of_test(user)), count, 10, 6);
        let ours = take(1000, 4).unwrap();
        assert_eq!(take(1000, 3).unwrap_err(), Crowded::ForUser);
        assert_eq!(take(1000, u32::MAX).unwrap_err(), Crowded::InAll, "nothing overflows");
        let ours_too = take(1000, 2).unwrap();
        assert_eq!(take(1001, 5).unwrap_err(), Crowded::InAll);
        let theirs = take(1001, 4).unwrap();
        assert_eq!(places.taken(), 10);
        drop(ours);
        assert!(take(1000, 5).is_err() && take(1000, 4).is_ok());
        drop((ours_too, theirs));
        assert_eq!(places.taken(), 0);
        assert!(places.lock().by_user.is_empty());
    }

    #[test]
    fn without_users_there_is_one_limit() {
        let (taken, crowded) = fill(&Arc::new(Places::default()), None);
        assert_eq!((taken.len(), crowded), (10, Crowded::InAll));
    }

    #[test]
    fn a_place_that_turns_out_to_be_a_users_counts_for_that_user() {
        let places = Arc::new(Places::default());
        let one = Some(of_test(1));
        let mut first = places.take(None, 9, 1).unwrap();
        let mut second = places.take(None, 9, 1).unwrap();
        assert_eq!(first.belongs_to(one, 1), Ok(()));
        assert_eq!(second.belongs_to(one, 1), Err(Crowded::ForUser));
        drop(first);
        assert_eq!(second.belongs_to(one, 1), Ok(()));
        assert_eq!(second.belongs_to(one, 0), Ok(()), "known already");
        drop(second);
        assert_eq!(places.taken(), 0);
        assert!(places.lock().by_user.is_empty());
    }
}
