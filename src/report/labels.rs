//! Names beside marks: each at the first of some places around its mark where it lies over no other name and no mark, with a thin line back
//! to it where it had to move.

use plotters::style::text_anchor::HPos;

use super::canvas::{self, Area};
use super::look::Dash;
use crate::error::Result;

/// A name of a mark.
#[derive(Debug, Clone)]
pub struct Label {
    /// The panel of the mark.
    pub panel: usize,
    /// Where the mark stands.
    pub at: (f64, f64),
    /// The name.
    pub text: String,
}

const SIZE: f64 = 26.0;
/// Half the height of a name.
const HALF: i32 = 17;
/// Half the side of a mark.
const MARK: i32 = 15;
/// From the middle of a mark to a name beside it.
const BESIDE: i32 = 22;

/// Left, top, right, bottom.
type Box4 = (i32, i32, i32, i32);

fn overlap(a: Box4, b: Box4) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

/// The boxes of names as wide as `widths` beside `marks`, inside `frame` where they fit at all.
fn places(marks: &[(i32, i32)], widths: &[i32], frame: Box4) -> Vec<Box4> {
    let around = |(x, y): (i32, i32)| (x - MARK, y - MARK, x + MARK, y + MARK);
    let mut taken: Vec<Box4> = Vec::new();
    for (&(x, y), &width) in marks.iter().zip(widths) {
        let beside = |up: i32| {
            let right = (x + BESIDE, y - up - HALF, x + BESIDE + width, y - up + HALF);
            [right, (x - BESIDE - width, right.1, x - BESIDE, right.3)]
        };
        let ups = (0..12).flat_map(|step| [2 * HALF * step, -2 * HALF * step]);
        let candidates: Vec<Box4> = ups.flat_map(beside).collect();
        let is_free = |place: &&Box4| {
            let inside = place.0 >= frame.0 && place.1 >= frame.1 && place.2 <= frame.2 && place.3 <= frame.3;
            inside
                && !taken.iter().any(|other| overlap(**place, *other))
                && !marks.iter().any(|mark| overlap(**place, around(*mark)))
        };
        let place = candidates.iter().find(is_free).copied().unwrap_or(candidates[0]);
        taken.push(place);
    }
    taken
}

/// Writes names beside marks.
///
/// # Errors
/// Those of the backend.
pub fn write(area: &Area<'_>, marks: &[(i32, i32)], texts: &[&str], frame: Box4) -> Result<()> {
    let texts: Vec<String> = texts.iter().map(|text| canvas::fitted(text, SIZE, frame.2 - frame.0)).collect();
    let widths: Vec<i32> = texts.iter().map(|text| canvas::text_width(text, SIZE)).collect();
    for ((&(x, y), text), place) in marks.iter().zip(&texts).zip(places(marks, &widths, frame)) {
        let (middle, is_right) = ((place.1 + place.3) / 2, place.0 > x);
        let (edge, anchor) = if is_right { (place.0, HPos::Left) } else { (place.2, HPos::Right) };
        if middle != y {
            canvas::line(area, &[(x, y), (edge, middle)], canvas::REFERENCE, 2, Dash::Solid)?;
        }
        canvas::write(area, text, SIZE, canvas::INK, (edge, middle), anchor)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_over_no_other_name_and_no_mark() {
        // A crowd, and one at the right edge.
        let marks = [(100, 100), (110, 104), (120, 100), (105, 112), (480, 100)];
        let found = places(&marks, &[80, 80, 80, 80, 80], (0, 0, 500, 500));
        assert_eq!(found.len(), 5);
        for (i, place) in found.iter().enumerate() {
            assert!(found[..i].iter().all(|other| !overlap(*place, *other)), "{found:?}");
            assert!(marks.iter().all(|(x, y)| !overlap(*place, (x - MARK, y - MARK, x + MARK, y + MARK))), "{found:?}");
            assert!(place.0 >= 0 && place.2 <= 500);
        }
        assert!(found[4].2 < 480, "it stands on the left");
        assert_eq!(
            places(&marks[..1], &[900], (0, 0, 500, 500)),
            [(122, 83, 1022, 117)],
            "what fits nowhere stands beside its mark"
        );
    }
}
