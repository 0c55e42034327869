//! A pattern as an automaton: the general way to match, and the only way to compare two patterns.
//!
//! An element takes one byte of its class or any number of them. States are positions between elements, held as a
//! bit set on the stack, so matching costs at most path × elements and never backtracks.

/// A class of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Byte(u8),
    NotSlash,
    Any,
}

impl Class {
    fn takes(self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => own == byte,
            Self::NotSlash => byte != b'/',
            Self::Any => true,
        }
    }

    /// True if this class takes all that the other takes.
    fn contains(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (Self::NotSlash, Self::NotSlash) => true,
            (own, Self::Byte(byte)) => own.takes(byte),
            _ => false,
        }
    }

    /// True if some byte is taken by both. `NotSlash` and `Any` share all bytes but one.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Byte(byte), class) | (class, Self::Byte(byte)) => class.takes(byte),
            _ => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    class: Class,
    /// Any number of bytes, also none; else exactly one.
    many: bool,
}

impl Element {
    pub(super) fn one(class: Class) -> Self {
        Self { class, many: false }
    }
    pub(super) fn many(class: Class) -> Self {
        Self { class, many: true }
    }
}

/// A set of states. A pattern has at most [`super::tokens::LONGEST`] elements, and one state more.
#[derive(Clone, Copy)]
struct States([u64; WORDS]);

const WORDS: usize = super::tokens::LONGEST / 64 + 1;

impl States {
    fn none() -> Self {
        Self([0; WORDS])
    }

    fn add(&mut self, state: usize) {
        if let Some(word) = self.0.get_mut(state / 64) {
            *word |= 1 << (state % 64);
        }
    }

    fn has(&self, state: usize) -> bool {
        self.0
            .get(state / 64)
            .is_some_and(|word| word >> (state % 64) & 1 == 1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Automaton {
    elements: Box<[Element]>,
}

impl Automaton {
    pub(super) fn new(elements: Vec<Element>) -> Self {
        Self {
            elements: elements.into_boxed_slice(),
        }
    }

    fn words(&self) -> usize {
        self.elements.len() / 64 + 1
    }

    /// Adds a state and those reached from it without a byte.
    fn enter(&self, states: &mut States, mut state: usize) {
        loop {
            states.add(state);
            match self.elements.get(state) {
                Some(element) if element.many => state += 1,
                _ => return,
            }
        }
    }

    /// Advances one step: `go` decides for each element of a live state whether it may be taken.
    fn step(&self, from: &States, go: impl Fn(Element) -> bool, advance: bool) -> States {
        let mut next = States::none();
        for (index, word) in from.0.iter().enumerate().take(self.words()) {
            let mut word = *word;
            while word != 0 {
                let state = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                if let Some(element) = self.elements.get(state)
                    && go(*element)
                {
                    if element.many {
                        self.enter(&mut next, state);
                    } else if advance {
                        self.enter(&mut next, state + 1);
                    }
                }
            }
        }
        next
    }

    fn start(&self) -> States {
        let mut states = States::none();
        self.enter(&mut states, 0);
        states
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let mut states = self.start();
        for byte in text {
            states = self.step(&states, |element| element.class.takes(*byte), true);
            if states.0.iter().take(self.words()).all(|word| *word == 0) {
                return false;
            }
        }
        states.has(self.elements.len())
    }

    /// Reads the other's elements instead of bytes. Sound, not complete: an element of the other must be taken by one
    /// state in the same way for all its bytes.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut states = self.start();
        for element in &other.elements {
            // If the other may repeat without bound, only a state that stays put covers every number of repetitions.
            states = self.step(
                &states,
                |own| (own.many || !element.many) && own.class.contains(element.class),
                !element.many,
            );
        }
        states.has(self.elements.len())
    }

    /// Exact: walks both automata together.
    pub(super) fn intersects(&self, other: &Self) -> bool {
        let width = other.elements.len() + 1;
        let mut seen = vec![false; (self.elements.len() + 1) * width];
        let mut open = vec![(0usize, 0usize)];
        while let Some((left, right)) = open.pop() {
            match seen.get_mut(left * width + right) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            let (a, b) = (self.elements.get(left), other.elements.get(right));
            if a.is_none() && b.is_none() {
                return true;
            }
            if a.is_some_and(|element| element.many) {
                open.push((left + 1, right));
            }
            if b.is_some_and(|element| element.many) {
                open.push((left, right + 1));
            }
            if let (Some(a), Some(b)) = (a, b)
                && a.class.meets(b.class)
            {
                open.push((left + usize::from(!a.many), right + usize::from(!b.many)));
            }
        }
        false
    }
}
