//! Changes to a list of fields. Text that is no longer used stays where it is until a long text would grow.

use http::HeaderValue;

use super::{
    FieldLine, FieldValue, Fields, InvalidFieldName, Known, KnownSet, Line, Named, Value, WireName,
    name, value_of, wire_name, write_line,
};

impl Fields {
    /// Removes all fields.
    pub fn clear(&mut self) {
        self.text.clear();
        self.is_wire = true;
        self.lines.clear();
        self.present = KnownSet::default();
    }

    /// Sets the one value of a name: in the place of its first field, or at the end.
    pub fn insert(&mut self, name: impl Named, value: impl Value) {
        let Some((at, _)) = self.first(&name) else {
            return self.append(name, value);
        };
        self.set(at, value.bytes());
        if self.get_all(&name).nth(1).is_some() {
            self.remove_from(&name, at + 1);
        }
    }

    /// As `insert`, of a field that is written already.
    pub fn insert_line(&mut self, line: &FieldLine) {
        let (name, value) = (line.name(), line.value());
        if self.contains_key(name) {
            return self.insert(name, value);
        }
        self.push(name.number(), name.text().len(), value.len(), |text| {
            text.extend_from_slice(line.text());
        });
    }

    /// Adds a field at the end.
    pub fn append(&mut self, name: impl Named, value: impl Value) {
        let known = name.known().map_or(Known::NONE, Known::number);
        let (name, value) = (name.text(), value.bytes());
        self.push(known, name.len(), value.len(), |text| {
            write_line(text, name, value);
        });
    }

    /// Adds a field at the end, whose line `write` adds to the text; `name` and `value` are bytes of it.
    #[inline]
    fn push(&mut self, known: u8, name: usize, value: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.make_room(name + value + 4);
        // Nothing is added past 4 GiB, which no bound on a message allows.
        if let Ok(place) = u32::try_from(self.text.len())
            && let Ok(name_length) = u16::try_from(name)
            && let Ok(value_length) = u32::try_from(value)
        {
            write(&mut self.text);
            self.present.add(known);
            self.lines.push(Line {
                name: place,
                value: place.saturating_add(u32::from(name_length) + 2),
                value_length,
                name_length,
                known,
                is_written: true,
            });
        }
    }

    /// Adds a field under a name in the case given.
    pub fn append_wire(&mut self, name: &[u8], value: impl Value) -> Result<(), InvalidFieldName> {
        if !name::is_name(name) {
            return Err(InvalidFieldName);
        }
        let known = Known::of(name).map_or(Known::NONE, Known::number);
        self.append(
            WireName {
                number: known,
                text: name,
            },
            value,
        );
        Ok(())
    }

    /// Removes the fields of a name; true if there were any.
    pub fn remove(&mut self, name: impl Named) -> bool {
        match self.first(&name) {
            Some((at, _)) => {
                self.remove_from(&name, at);
                true
            }
            None => false,
        }
    }

    /// Removes the fields of all names of a set.
    pub fn remove_all(&mut self, names: KnownSet) {
        if !self.has_none_of(names) {
            self.retain(|name, _| !name.is_of(names));
        }
    }

    /// Removes the fields of a name and gives the first one's value.
    pub fn take(&mut self, name: impl Named) -> Option<HeaderValue> {
        let value = self.get(&name)?.owned();
        self.remove(name);
        Some(value)
    }

    /// Keeps the fields for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(WireName<'_>, FieldValue<'_>) -> bool) {
        let (text, before) = (&self.text, self.lines.len());
        let mut present = KnownSet::default();
        self.lines.retain(|line| {
            let kept = keep(wire_name(text, line), value_of(text, line));
            if kept {
                present.add(line.known);
            }
            kept
        });
        self.present = present;
        self.is_wire &= self.lines.len() == before;
    }

    /// Replaces the values of a name's fields by what `edit` makes of them; `None` leaves one as it is.
    pub fn edit(
        &mut self,
        name: impl Named,
        mut edit: impl FnMut(FieldValue<'_>) -> Option<HeaderValue>,
    ) {
        for at in 0..self.lines.len() {
            let Some(line) = self.lines.get(at).filter(|line| self.name(line) == name) else {
                continue;
            };
            if let Some(value) = edit(self.value(line)) {
                self.set(at, value.as_bytes());
            }
        }
    }

    /// Removes the fields of a name from a place on.
    fn remove_from(&mut self, name: &impl Named, from: usize) {
        self.is_wire = false;
        let (text, mut at) = (&self.text, 0);
        self.lines.retain(|line| {
            at += 1;
            at <= from || wire_name(text, line) != *name
        });
        if let Some(known) = name.known().map(Known::number)
            && !self.lines.iter().any(|line| line.known == known)
        {
            self.present.remove(known);
        }
    }

    /// Sets a line's value, in the place of the old one if that is as long.
    fn set(&mut self, at: usize, value: &[u8]) {
        let Self {
            text,
            lines,
            is_wire,
            ..
        } = self;
        if let Some(line) = lines.get_mut(at)
            && let Ok(length) = u32::try_from(value.len())
            && length <= line.value_length
            && let Some(place) = text.get_mut(line.value as usize..)
            && let Some(place) = place.get_mut(..value.len())
        {
            place.copy_from_slice(value);
            let is_whole = length == line.value_length;
            *is_wire &= is_whole;
            line.is_written &= is_whole;
            line.value_length = length;
            return;
        }
        self.make_room(value.len());
        if let Ok(place) = u32::try_from(self.text.len())
            && let Ok(length) = u32::try_from(value.len())
            && let Some(line) = self.lines.get_mut(at)
        {
            self.text.extend_from_slice(value);
            self.is_wire = false;
            (line.value, line.value_length, line.is_written) = (place, length, false);
        }
    }

    /// Drops the text of removed fields and replaced values before a long text grows, if that is most of it.
    fn make_room(&mut self, more: usize) {
        const LONG: usize = 64 << 10;
        if self.text.len() > LONG
            && self.text.len() + more > self.text.capacity()
            && self.bytes() < self.text.len() / 2
        {
            let mut compact = Self::with_capacity(self.lines.len());
            compact.extend(&*self);
            *self = compact;
        }
    }
}
