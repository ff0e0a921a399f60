//! The strands that wait for a compute thread. Bounded by construction: a strand is at most once among the
//! short posts and at most once among the slow ones.
//!
//! A group of slow work has a number of places. A slow post holds a place from when it is ready until its turn
//! has ended, and strands whose group has none left wait in the group's own line. So a thread that looks for
//! work never meets a post it may not take, and a group with hundreds of strands is not in the others' way.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    strand::Strand,
    sync::{Condvar, Mutex},
    work::Group,
};

pub(crate) enum Post<P, W> {
    /// Short work was left over.
    Short(Arc<Strand<P, W>>),
    /// One turn of slow work.
    Slow(Group, Arc<Strand<P, W>>),
    /// Slow work that is dropped, for the pool shuts down.
    Abandoned(Group, Arc<Strand<P, W>>),
}

pub(crate) struct Queue<P, W> {
    posts: Mutex<Posts<P, W>>,
    arrived: Condvar,
}

struct Posts<P, W> {
    short: VecDeque<Arc<Strand<P, W>>>,
    slow: VecDeque<(Group, Arc<Strand<P, W>>)>,
    groups: HashMap<Group, Places<P, W>>,
    places_per_group: usize,
    slow_is_next: bool,
    closed: bool,
}

/// Of one group; gone when nobody has a place. Strands wait only while all places are taken.
struct Places<P, W> {
    taken: usize,
    waiting: VecDeque<Arc<Strand<P, W>>>,
}

/// The pool takes nothing any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl<P, W> Queue<P, W> {
    pub(crate) fn new(places_per_group: usize) -> Self {
        let posts = Posts {
            short: VecDeque::new(),
            slow: VecDeque::new(),
            groups: HashMap::new(),
            places_per_group,
            slow_is_next: false,
            closed: false,
        };
        Self { posts: Mutex::new(posts), arrived: Condvar::new() }
    }

    /// Strands that wait for a thread or for a place of their group.
    pub(crate) fn waiting(&self) -> usize {
        let posts = self.posts.lock();
        let without_place: usize = posts.groups.values().map(|places| places.waiting.len()).sum();
        posts.short.len() + posts.slow.len() + without_place
    }

    /// Gives the strand back when the pool is closed: its short work is then the caller's.
    pub(crate) fn post_short(&self, strand: Arc<Strand<P, W>>) -> Result<(), Arc<Strand<P, W>>> {
        let mut posts = self.posts.lock();
        if posts.closed {
            return Err(strand);
        }
        posts.short.push_back(strand);
        drop(posts);
        self.arrived.notify_one();
        Ok(())
    }

    pub(crate) fn post_slow(&self, group: Group, strand: Arc<Strand<P, W>>) -> Result<(), Closed> {
        let mut posts = self.posts.lock();
        if posts.closed {
            return Err(Closed);
        }
        let ready = posts.push_slow(group, strand);
        drop(posts);
        if ready {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Ends the turn of a slow post: its place goes to the next strand of the group. With a next group the
    /// strand comes again. Accepted when closed too, for the caller's thread goes on until nothing is left.
    pub(crate) fn end_turn(&self, group: Group, again: Option<(Group, Arc<Strand<P, W>>)>) {
        let mut posts = self.posts.lock();
        let mut ready = usize::from(posts.free_place(group));
        if let Some((group, strand)) = again {
            ready += usize::from(posts.push_slow(group, strand));
        }
        drop(posts);
        for _ in 0..ready {
            self.arrived.notify_one();
        }
    }

    /// The next post, oldest first, short and slow by turns; waits for one. None when closed and empty.
    pub(crate) fn next(&self) -> Option<Post<P, W>> {
        let mut posts = self.posts.lock();
        loop {
            if let Some(post) = posts.pop() {
                return Some(post);
            }
            if posts.closed {
                return None;
            }
            self.arrived.wait(&mut posts);
        }
    }

    pub(crate) fn close(&self) {
        self.posts.lock().closed = true;
        self.arrived.notify_all();
    }
}

impl<P, W> Posts<P, W> {
    /// False if the group has no place left, and the strand waits for one.
    fn push_slow(&mut self, group: Group, strand: Arc<Strand<P, W>>) -> bool {
        let places =
            self.groups.entry(group).or_insert_with(|| Places { taken: 0, waiting: VecDeque::new() });
        if places.taken == self.places_per_group {
            places.waiting.push_back(strand);
            return false;
        }
        places.taken += 1;
        self.slow.push_back((group, strand));
        true
    }

    /// True if the place went to a strand that waited for it.
    fn free_place(&mut self, group: Group) -> bool {
        let places = self.groups.get_mut(&group).expect("a group stays while one of its posts has a place");
        if let Some(strand) = places.waiting.pop_front() {
            self.slow.push_back((group, strand));
            return true;
        }
        places.taken -= 1;
        if places.taken == 0 {
            self.groups.remove(&group);
        }
        false
    }

    fn pop(&mut self) -> Option<Post<P, W>> {
        self.slow_is_next = !self.slow_is_next;
        if self.slow_is_next {
            self.pop_short().or_else(|| self.pop_slow())
        } else {
            self.pop_slow().or_else(|| self.pop_short())
        }
    }

    fn pop_short(&mut self) -> Option<Post<P, W>> {
        self.short.pop_front().map(Post::Short)
    }

    fn pop_slow(&mut self) -> Option<Post<P, W>> {
        let (group, strand) = self.slow.pop_front()?;
        Some(if self.closed { Post::Abandoned(group, strand) } else { Post::Slow(group, strand) })
    }
}
