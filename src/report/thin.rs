//! Lines of millions of points as lines of pixels.
//!
//! Within a column of pixels a line is drawn by its first, lowest, highest and last
//! point: it looks the same, since what lies between covers the same pixels.
//! Source: U. Jugel et al., "M4: A Visualization-Oriented Time Series Data
//! Aggregation", VLDB 2014.

/// How wide a column is, in pixels.
const COLUMN: f64 = 0.5;

/// Points that draw the same line, at most four for each visit of a column.
/// Points that go back and forth without leaving a column count as one visit.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    let mut rest = points;
    while let Some(first) = rest.first() {
        let column = (first.0 / COLUMN).floor();
        let same = |point: &&(f64, f64)| (point.0 / COLUMN).floor() == column;
        let (visit, after) = rest.split_at(rest.iter().take_while(same).count().max(1));
        rest = after;
        keep(visit, &mut kept);
    }
    kept
}

fn keep(visit: &[(f64, f64)], kept: &mut Vec<(f64, f64)>) {
    if visit.len() <= 4 {
        kept.extend_from_slice(visit);
        return;
    }
    let by_height = |a: &&(usize, f64), b: &&(usize, f64)| a.1.total_cmp(&b.1);
    let heights: Vec<(usize, f64)> = visit.iter().map(|p| p.1).enumerate().collect();
    let lowest = heights.iter().min_by(by_height).map_or(0, |p| p.0);
    let highest = heights.iter().max_by(by_height).map_or(0, |p| p.0);
    let mut places = [0, lowest, highest, visit.len() - 1];
    places.sort_unstable();
    let mut before = None;
    for place in places {
        if before != Some(place) {
            kept.push(visit[place]);
        }
        before = Some(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_points_are_a_few_per_pixel_and_keep_their_peaks() {
        let mut points: Vec<(f64, f64)> = (0..1_000_000)
            .map(|i| (f64::from(i) / 2000.0, f64::from(i % 7)))
            .collect();
        points[654_321].1 = 99.0;
        let kept = thinned(&points);
        assert!(kept.len() <= 4 * 1001, "{}", kept.len());
        assert!(kept.contains(&points[654_321]));
        assert_eq!(kept.first(), points.first());
        assert_eq!(kept.last(), points.last());
    }

    #[test]
    fn few_points_stay() {
        let points = [(0.0, 1.0), (5.0, 2.0), (5.0, 3.0), (1.0, 1.0)];
        assert_eq!(thinned(&points), points);
    }
}
