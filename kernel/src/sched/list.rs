//! Doubly linked lists whose links live in the members: putting a thread on a queue
//! allocates nothing. The lock that guards a list guards its members' links.

use core::cell::Cell;
use core::ptr::{NonNull, null};

/// The links of one member; a member is on one list at a time.
pub struct Links<T> {
    prev: Cell<*const T>,
    next: Cell<*const T>,
    linked: Cell<bool>,
}

impl<T> Links<T> {
    /// On no list.
    pub const fn new() -> Self {
        Self {
            prev: Cell::new(null()),
            next: Cell::new(null()),
            linked: Cell::new(false),
        }
    }
    /// Whether the member is on a list.
    pub fn is_linked(&self) -> bool {
        self.linked.get()
    }
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A type that can be on a [`List`].
///
/// # Safety
/// `links` always returns the same field of the value, which nothing but [`List`] changes.
pub unsafe trait Linked: Sized {
    /// The member's links.
    fn links(&self) -> &Links<Self>;
}

/// A list of members that it does not own.
pub struct List<T: Linked> {
    head: *const T,
    tail: *const T,
    len: usize,
}

// SAFETY: a list is a few pointers; the lock around it decides who follows them.
unsafe impl<T: Linked> Send for List<T> {}

impl<T: Linked> List<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: null(),
            tail: null(),
            len: 0,
        }
    }
    /// Members on the list.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether nobody is on the list.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The first member.
    pub fn front(&self) -> Option<NonNull<T>> {
        NonNull::new(self.head.cast_mut())
    }

    /// Adds at the end.
    ///
    /// # Safety
    /// `member` is on no list and stays at its place, alive, until it is taken off.
    pub unsafe fn push_back(&mut self, member: NonNull<T>) {
        // SAFETY: alive (contract).
        let links = unsafe { member.as_ref() }.links();
        debug_assert!(!links.linked.get());
        links.linked.set(true);
        links.next.set(null());
        links.prev.set(self.tail);
        // SAFETY: members are alive (contract of their own push).
        match unsafe { self.tail.as_ref() } {
            Some(tail) => tail.links().next.set(member.as_ptr()),
            None => self.head = member.as_ptr(),
        }
        self.tail = member.as_ptr();
        self.len += 1;
    }

    /// Adds at the start.
    ///
    /// # Safety
    /// As [`List::push_back`].
    pub unsafe fn push_front(&mut self, member: NonNull<T>) {
        match self.front() {
            // SAFETY: contract; `head` is a member of this list.
            Some(head) => unsafe { self.insert_before(head, member) },
            // SAFETY: contract.
            None => unsafe { self.push_back(member) },
        }
    }

    /// Adds `member` in front of `at`.
    ///
    /// # Safety
    /// As [`List::push_back`]; `at` is on this list.
    pub unsafe fn insert_before(&mut self, at: NonNull<T>, member: NonNull<T>) {
        // SAFETY: both are alive (contract).
        let (at_links, links) = unsafe { (at.as_ref().links(), member.as_ref().links()) };
        debug_assert!(at_links.linked.get() && !links.linked.get());
        links.linked.set(true);
        links.next.set(at.as_ptr());
        links.prev.set(at_links.prev.get());
        // SAFETY: a member of this list, so alive.
        match unsafe { at_links.prev.get().as_ref() } {
            Some(prev) => prev.links().next.set(member.as_ptr()),
            None => self.head = member.as_ptr(),
        }
        at_links.prev.set(member.as_ptr());
        self.len += 1;
    }

    /// Takes `member` off.
    ///
    /// # Safety
    /// `member` is on this list.
    pub unsafe fn remove(&mut self, member: NonNull<T>) {
        // SAFETY: on the list, so alive.
        let links = unsafe { member.as_ref() }.links();
        debug_assert!(links.linked.get());
        let (prev, next) = (links.prev.get(), links.next.get());
        // SAFETY: neighbours are members, so alive.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.links().next.set(next),
            None => self.head = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.links().prev.set(prev),
            None => self.tail = prev,
        }
        links.prev.set(null());
        links.next.set(null());
        links.linked.set(false);
        self.len -= 1;
    }

    /// Takes the first member off.
    pub fn pop_front(&mut self) -> Option<NonNull<T>> {
        let first = self.front()?;
        // SAFETY: the first member is on this list.
        unsafe { self.remove(first) };
        Some(first)
    }

    /// Moves all of `other` to the end, in order.
    pub fn append(&mut self, other: &mut Self) {
        // SAFETY: heads and tails are members, so alive.
        match unsafe { (self.tail.as_ref(), other.head.as_ref()) } {
            (_, None) => return,
            (None, Some(_)) => self.head = other.head,
            (Some(tail), Some(head)) => {
                tail.links().next.set(other.head);
                head.links().prev.set(self.tail);
            }
        }
        self.tail = other.tail;
        self.len += other.len;
        *other = Self::new();
    }

    /// The members in order, from the first on.
    pub fn iter(&self) -> impl Iterator<Item = NonNull<T>> + '_ {
        let mut at = self.front();
        core::iter::from_fn(move || {
            let this = at?;
            // SAFETY: a member, alive while the list is borrowed.
            at = NonNull::new(unsafe { this.as_ref() }.links().next.get().cast_mut());
            Some(this)
        })
    }
}

impl<T: Linked> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(u32, Links<Item>);
    // SAFETY: one field, always the same.
    unsafe impl Linked for Item {
        fn links(&self) -> &Links<Item> {
            &self.1
        }
    }
    #[allow(clippy::vec_box)] // Lists link the items: they must not move.
    fn items() -> Vec<Box<Item>> {
        (0..5).map(|n| Box::new(Item(n, Links::new()))).collect()
    }
    fn order(list: &List<Item>) -> Vec<u32> {
        // SAFETY: the items outlive the list in every test.
        list.iter().map(|p| unsafe { p.as_ref() }.0).collect()
    }

    #[test]
    fn order_follows_pushes_and_removals() {
        let items = items();
        let p = |i: usize| NonNull::from(&*items[i]);
        let mut list = List::new();
        // SAFETY: the items live to the end of the test and are on one list at a time.
        unsafe {
            list.push_back(p(1));
            list.push_back(p(2));
            list.push_front(p(0));
            list.insert_before(p(2), p(4));
            assert_eq!(order(&list), [0, 1, 4, 2]);
            list.remove(p(1));
            list.remove(p(2));
            list.remove(p(0));
            assert_eq!(order(&list), [4]);
            list.push_back(p(0));
        }
        assert_eq!(list.len(), 2);
        assert_eq!(list.pop_front(), Some(p(4)));
        assert_eq!(list.pop_front(), Some(p(0)));
        assert_eq!(list.pop_front(), None);
        assert!(!items[4].1.is_linked());
    }

    #[test]
    fn append_joins_and_empties() {
        let items = items();
        let p = |i: usize| NonNull::from(&*items[i]);
        let (mut a, mut b) = (List::new(), List::new());
        // SAFETY: as above.
        unsafe {
            b.push_back(p(0));
            b.push_back(p(1));
            a.append(&mut b);
            assert!(b.is_empty());
            b.push_back(p(2));
            a.append(&mut b);
            a.append(&mut b);
            assert_eq!(order(&a), [0, 1, 2]);
            a.remove(p(2));
            a.push_back(p(3));
        }
        assert_eq!(order(&a), [0, 1, 3]);
    }
}
