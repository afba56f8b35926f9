//! Pictures as PNG, from their SVG, with a typeface that comes with the program: the same bytes on any machine, fonts installed or not. The
//! only file that names `resvg` and `dejavu`.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

use crate::error::{Error, Result};

/// The picture with one and a half pixels to that of its nominal size: 400 an inch where it is a column of a paper.
///
/// # Errors
/// [`Error::Numerical`] for text that is no SVG.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let failed = |reason: String| Error::Numerical { operation: "drawing a picture as PNG", reason };
    let mut fonts = Database::new();
    fonts.load_font_source(Source::Binary(Arc::new(dejavu::sans::regular())));
    fonts.set_sans_serif_family("DejaVu Sans");
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|e| failed(e.to_string()))?;
    const SCALE: f32 = 1.5;
    let pixels = |length: f32| (length * SCALE).round() as u32;
    let size = (pixels(tree.size().width()), pixels(tree.size().height()));
    let mut pixmap = Pixmap::new(size.0, size.1).ok_or_else(|| failed(format!("no room for {} × {} pixels", size.0, size.1)))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &str) -> Vec<u8> {
        let style = "font-family=\"sans-serif\" font-size=\"12\"";
        png(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90\" height=\"20\"><text y=\"15\" {style}>{words}</text></svg>"
        ))
        .unwrap()
    }

    /// Where no font is found nothing is drawn, and all texts give the same bytes.
    #[test]
    fn texts_are_drawn_without_any_font_of_the_system() {
        assert_eq!(text("‖H‖"), text("‖H‖"));
        assert_ne!(text("‖H‖"), text(""));
        // The symbols of the captions are in the typeface: a missing glyph would be drawn as the same box as another one.
        let symbols = ["‖", "√", "Ĥ", "θ", "λ", "μ", "δ", "Φ", "∇", "≤", "⁻", "½", "−", "∞", "ᵀ", "ρ", "₀", "ₖ", "²"];
        let drawn: Vec<Vec<u8>> = symbols.iter().map(|symbol| text(symbol)).collect();
        let missing = text("\u{10FFFD}");
        assert!(drawn.iter().all(|png| *png != missing));
        assert!((0..drawn.len()).all(|i| !drawn[..i].contains(&drawn[i])));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert!(png("<svg").is_err() && png("").is_err());
    }
}
