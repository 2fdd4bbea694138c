//! A pairing heap whose links live in its members: arming a timer allocates nothing.
//! Insertion is O(1), taking the earliest O(log n) amortised. The lock that guards a heap
//! guards its members' links.

use core::cell::Cell;
use core::ptr::{NonNull, null};

type Ptr = *const HeapLinks;

/// A member's place and key. The first field of what it stands for (`repr(C)`), so that the
/// owner can come back from the links to the whole.
#[repr(C)]
pub struct HeapLinks {
    key: Cell<u64>,
    child: Cell<Ptr>,
    /// Right sibling.
    next: Cell<Ptr>,
    /// Left sibling, or the parent of a first child; null for the root.
    prev: Cell<Ptr>,
}

impl HeapLinks {
    /// On no heap.
    pub const fn new() -> Self {
        Self {
            key: Cell::new(0),
            child: Cell::new(null()),
            next: Cell::new(null()),
            prev: Cell::new(null()),
        }
    }
    /// The key it was inserted with.
    #[cfg(test)]
    pub fn key(&self) -> u64 {
        self.key.get()
    }
}

/// The heap: members ordered by key, smallest first.
pub struct PairingHeap {
    root: Ptr,
}

// SAFETY: a pointer; the lock around the heap decides who follows it.
unsafe impl Send for PairingHeap {}

/// Joins two trees; both roots have no siblings.
///
/// # Safety
/// Both are roots of live trees.
unsafe fn meld(a: Ptr, b: Ptr) -> Ptr {
    if a.is_null() {
        return b;
    }
    if b.is_null() {
        return a;
    }
    // SAFETY: live (contract).
    let (ra, rb) = unsafe { (&*a, &*b) };
    let (top, low, low_ptr) = if ra.key.get() <= rb.key.get() {
        (ra, rb, b)
    } else {
        (rb, ra, a)
    };
    let first = top.child.get();
    low.next.set(first);
    low.prev.set(top);
    // SAFETY: children of a live tree are live.
    if let Some(first) = unsafe { first.as_ref() } {
        first.prev.set(low_ptr);
    }
    top.child.set(low_ptr);
    top.next.set(null());
    top.prev.set(null());
    top
}

/// Joins a list of siblings into one tree, in two passes.
///
/// # Safety
/// `first` heads a list of live siblings.
unsafe fn meld_siblings(first: Ptr) -> Ptr {
    // Pass 1: meld pairs from left to right, pushing results on a stack linked by `next`.
    let mut stack: Ptr = null();
    let mut at = first;
    while !at.is_null() {
        // SAFETY: siblings are live; each is detached before it is melded.
        unsafe {
            let a = at;
            let b = (*a).next.get();
            at = if b.is_null() { null() } else { (*b).next.get() };
            (*a).next.set(null());
            (*a).prev.set(null());
            if !b.is_null() {
                (*b).next.set(null());
                (*b).prev.set(null());
            }
            let tree = meld(a, b);
            (*tree).next.set(stack);
            stack = tree;
        }
    }
    // Pass 2: meld the results from right to left.
    let mut root: Ptr = null();
    while !stack.is_null() {
        // SAFETY: as above.
        unsafe {
            let tree = stack;
            stack = (*tree).next.get();
            (*tree).next.set(null());
            root = meld(root, tree);
        }
    }
    root
}

impl PairingHeap {
    /// An empty heap.
    pub const fn new() -> Self {
        Self { root: null() }
    }

    /// The smallest member.
    pub fn peek(&self) -> Option<NonNull<HeapLinks>> {
        NonNull::new(self.root.cast_mut())
    }

    /// Smallest key.
    pub fn min_key(&self) -> Option<u64> {
        // SAFETY: members are live (contract of `insert`).
        Some(unsafe { self.peek()?.as_ref() }.key.get())
    }

    /// Adds `member` under `key`.
    ///
    /// # Safety
    /// `member` is on no heap, and stays at its place, alive, until it is removed.
    pub unsafe fn insert(&mut self, member: NonNull<HeapLinks>, key: u64) {
        // SAFETY: live (contract).
        let links = unsafe { member.as_ref() };
        links.key.set(key);
        links.child.set(null());
        links.next.set(null());
        links.prev.set(null());
        // SAFETY: the root is a member; the new one is a tree of one.
        self.root = unsafe { meld(self.root, member.as_ptr()) };
    }

    /// Takes `member` off.
    ///
    /// # Safety
    /// `member` is on this heap.
    pub unsafe fn remove(&mut self, member: NonNull<HeapLinks>) {
        // SAFETY: members are live; the pointers between them are kept by `meld`.
        unsafe {
            let m = member.as_ref();
            let children = meld_siblings(m.child.get());
            m.child.set(null());
            if core::ptr::eq(self.root, member.as_ptr()) {
                self.root = children;
                return;
            }
            let prev = &*m.prev.get();
            let next = m.next.get();
            if core::ptr::eq(prev.child.get(), member.as_ptr()) {
                prev.child.set(next);
            } else {
                prev.next.set(next);
            }
            if let Some(next) = next.as_ref() {
                next.prev.set(prev);
            }
            m.next.set(null());
            m.prev.set(null());
            self.root = meld(self.root, children);
        }
    }
}

impl Default for PairingHeap {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(heap: &mut PairingHeap) -> Option<u64> {
        let min = heap.peek()?;
        // SAFETY: the tests keep their members alive.
        unsafe {
            heap.remove(min);
            Some(min.as_ref().key())
        }
    }

    /// A small generator of reproducible numbers.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn pops_in_order_and_removes_anywhere() {
        let members: Vec<Box<HeapLinks>> = (0..500).map(|_| Box::new(HeapLinks::new())).collect();
        let mut heap = PairingHeap::new();
        let mut seed = 42;
        let mut model: Vec<(u64, usize)> = Vec::new();
        let mut free: Vec<usize> = (0..members.len()).collect();
        for _ in 0..20_000 {
            match random(&mut seed) % 3 {
                0 | 1 if !free.is_empty() && !random(&mut seed).is_multiple_of(5) => {
                    let i = free.swap_remove(random(&mut seed) as usize % free.len());
                    let key = random(&mut seed) % 1000;
                    // SAFETY: free members are on no heap and outlive it.
                    unsafe { heap.insert(NonNull::from(&*members[i]), key) };
                    model.push((key, i));
                }
                2 if !model.is_empty() => {
                    let (_, i) = model.swap_remove(random(&mut seed) as usize % model.len());
                    // SAFETY: it is on the heap.
                    unsafe { heap.remove(NonNull::from(&*members[i])) };
                    free.push(i);
                }
                _ if !model.is_empty() => {
                    let min = heap.peek().unwrap();
                    let at = model
                        .iter()
                        .position(|&(_, i)| core::ptr::eq(&*members[i], min.as_ptr()))
                        .unwrap();
                    let least = model.iter().map(|m| m.0).min();
                    assert_eq!(pop(&mut heap), least);
                    free.push(model.swap_remove(at).1);
                }
                _ => {}
            }
            assert_eq!(heap.min_key(), model.iter().map(|m| m.0).min());
        }
        let mut rest: Vec<u64> = model.iter().map(|m| m.0).collect();
        rest.sort_unstable();
        for key in rest {
            assert_eq!(pop(&mut heap), Some(key));
        }
        assert_eq!(pop(&mut heap), None);
    }
}
