//! Where each series reference lives: two array look-ups, no hashing.
//!
//! References only ever count up, so that one held too long can never name another series. Pages of
//! dead references are given back; what stays is 8 bytes per 1024 references ever given.

use crate::SeriesRef;

const PAGE: u32 = 1024;

/// A series' group in the head, and its place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) slot: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Refs {
    pages: Vec<Option<Box<Page>>>,
    live: usize,
}

#[derive(Debug)]
struct Page {
    places: [Place; PAGE as usize],
    live: u32,
}

/// No series: no head has as many groups.
const NONE: Place = Place { group: u32::MAX, slot: u32::MAX };

impl Refs {
    pub(crate) fn get(&self, series: SeriesRef) -> Option<Place> {
        let page = self.pages.get((series.0 / PAGE) as usize)?.as_ref()?;
        page.places.get((series.0 % PAGE) as usize).copied().filter(|place| *place != NONE)
    }

    pub(crate) fn set(&mut self, series: SeriesRef, place: Place) {
        let at = (series.0 / PAGE) as usize;
        if self.pages.len() <= at {
            self.pages.resize_with(at + 1, || None);
        }
        let Some(page) = self.pages.get_mut(at) else { return };
        let page =
            page.get_or_insert_with(|| Box::new(Page { places: [NONE; PAGE as usize], live: 0 }));
        if let Some(slot) = page.places.get_mut((series.0 % PAGE) as usize)
            && std::mem::replace(slot, place) == NONE
        {
            page.live += 1;
            self.live += 1;
        }
    }

    pub(crate) fn remove(&mut self, series: SeriesRef) {
        let Some(slot) = self.pages.get_mut((series.0 / PAGE) as usize) else { return };
        let Some(page) = slot else { return };
        if let Some(place) = page.places.get_mut((series.0 % PAGE) as usize)
            && std::mem::replace(place, NONE) != NONE
        {
            self.live -= 1;
            page.live -= 1;
            if page.live == 0 {
                *slot = None;
            }
        }
    }

    /// How many references are live.
    pub(crate) fn len(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Refs};
    use crate::SeriesRef;

    #[test]
    fn a_page_goes_with_its_last_reference() {
        let mut refs = Refs::default();
        let place = Place { group: 1, slot: 2 };
        for n in [0, 1023, 5000] {
            refs.set(SeriesRef(n), place);
            assert_eq!(refs.get(SeriesRef(n)), Some(place));
        }
        assert_eq!((refs.get(SeriesRef(1)), refs.get(SeriesRef(u32::MAX))), (None, None));
        refs.remove(SeriesRef(5000));
        refs.remove(SeriesRef(5000));
        assert_eq!((refs.len(), refs.pages.iter().flatten().count()), (2, 1));
    }
}
