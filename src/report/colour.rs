//! Colours that people with any sight tell apart, on light and on dark ground.
//!
//! Lines and bars: M. Okabe, K. Ito, "Color Universal Design", 2008, darker where
//! white shines through. Heat maps: viridis of matplotlib (CC0), which grows evenly
//! brighter.

use super::scene::Ink;

/// What a chart is drawn on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// White.
    #[default]
    Light,
    /// Nearly black.
    Dark,
    /// What the page around it says, by the variables that [`super::html`] sets.
    Page,
}

/// How many series have a colour of their own.
pub(super) const SERIES_COLOURS: usize = 8;

/// Ink as `[red, green, blue]`; a page is taken for light.
pub(super) fn rgb(ink: Ink, theme: Theme) -> [u8; 3] {
    const LIGHT: [[u8; 3]; SERIES_COLOURS] = [
        [0, 114, 178],
        [213, 94, 0],
        [0, 158, 115],
        [204, 121, 167],
        [176, 128, 0],
        [64, 64, 64],
        [64, 160, 216],
        [128, 64, 32],
    ];
    const DARK: [[u8; 3]; SERIES_COLOURS] = [
        [86, 180, 233],
        [240, 130, 50],
        [40, 190, 145],
        [220, 145, 190],
        [240, 228, 66],
        [205, 205, 205],
        [100, 140, 255],
        [190, 135, 100],
    ];
    let dark = theme == Theme::Dark;
    let pick = |light, night| if dark { night } else { light };
    match ink {
        Ink::Ground => pick([255, 255, 255], [23, 26, 30]),
        Ink::Text => pick([28, 32, 36], [230, 233, 237]),
        Ink::Muted => pick([91, 99, 108], [163, 171, 180]),
        Ink::Grid => pick([229, 232, 235], [46, 51, 57]),
        Ink::Axis => pick([140, 148, 156], [106, 114, 123]),
        Ink::Series(i) if dark => DARK[i % SERIES_COLOURS],
        Ink::Series(i) => LIGHT[i % SERIES_COLOURS],
    }
}

/// The inks of a page, with the names of their variables.
pub(super) fn variables() -> impl Iterator<Item = (Ink, String)> {
    let plain = [Ink::Ground, Ink::Text, Ink::Muted, Ink::Grid, Ink::Axis];
    let series = (0..SERIES_COLOURS).map(Ink::Series);
    plain
        .into_iter()
        .chain(series)
        .map(|ink| (ink, variable(ink)))
}

/// What the variable of an ink is called.
pub(super) fn variable(ink: Ink) -> String {
    match ink {
        Ink::Ground => "--ground".to_owned(),
        Ink::Text => "--text".to_owned(),
        Ink::Muted => "--muted".to_owned(),
        Ink::Grid => "--grid".to_owned(),
        Ink::Axis => "--axis".to_owned(),
        Ink::Series(i) => format!("--series-{}", i % SERIES_COLOURS),
    }
}

/// A colour as CSS writes it.
pub(super) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The colour of a place between 0 and 1, dark to bright.
pub(super) fn heat(at: f64) -> [u8; 3] {
    const VIRIDIS: [[u8; 3]; 11] = [
        [68, 1, 84],
        [72, 36, 117],
        [65, 68, 135],
        [53, 95, 141],
        [42, 120, 142],
        [33, 145, 140],
        [34, 168, 132],
        [68, 191, 112],
        [122, 209, 81],
        [189, 223, 38],
        [253, 231, 37],
    ];
    let last = VIRIDIS.len() - 1;
    let place = if at.is_finite() {
        at.clamp(0.0, 1.0)
    } else {
        0.0
    } * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 10"
    )]
    let below = (place as usize).min(last - 1);
    let part = place - below as f64;
    let mix = |channel: usize| {
        let [from, to] = [VIRIDIS[below], VIRIDIS[below + 1]].map(|c| f64::from(c[channel]));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between two bytes"
        )]
        let mixed = (from + (to - from) * part).round() as u8;
        mixed
    };
    [mix(0), mix(1), mix(2)]
}
