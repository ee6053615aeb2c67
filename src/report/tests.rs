//! Any chart at all: drawn within its bounds, as XML and PNG that others read.

use proptest::prelude::*;

use super::*;

fn example() -> Document {
    from_json(include_str!("../../examples/report.json")).unwrap()
}

fn charts(document: &Document) -> impl Iterator<Item = &Chart> {
    document
        .sections
        .iter()
        .flat_map(|s| &s.items)
        .filter_map(|item| match item {
            Item::Chart(chart) => Some(chart),
            Item::Table(_) => None,
        })
}

fn empty(marks: Marks) -> Chart {
    Chart {
        name: "n".to_owned(),
        title: "t".to_owned(),
        x: Axis::default(),
        y: Axis::default(),
        marks,
    }
}

/// Every number of an SVG's shapes is finite and in the picture, and it is XML.
fn assert_well_drawn(chart: &Chart) {
    let svg = svg::chart(chart, Theme::Light);
    let xml = roxmltree::Document::parse(&svg).unwrap();
    let scene = scene::of(chart);
    let within = |value: &str, most: f64| {
        let number: f64 = value.parse().unwrap();
        assert!((-0.01..=most + 0.01).contains(&number), "{value} in {svg}");
    };
    for node in xml.descendants() {
        for attribute in node.attributes() {
            match attribute.name() {
                "x" | "cx" | "width" => within(attribute.value(), scene.width),
                "y" | "cy" | "height" => within(attribute.value(), scene.height),
                "d" => {
                    let pairs = attribute
                        .value()
                        .split(['M', 'L'])
                        .filter(|p| !p.is_empty());
                    for (x, y) in pairs.map(|pair| pair.split_once(' ').unwrap()) {
                        within(x, scene.width);
                        within(y, scene.height);
                    }
                }
                _ => (),
            }
        }
    }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3_f64,
        2 => 1e-3..1e12_f64,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![0.0, f64::NAN, f64::INFINITY, f64::MIN, f64::MAX, 5e-324]),
    ]
}

fn axis() -> impl Strategy<Value = Axis> {
    let units = [
        Unit::None,
        Unit::Bytes,
        Unit::Percent,
        Unit::Micros,
        Unit::Seconds,
        Unit::Ratio,
    ];
    let scales = [Scale::Linear, Scale::Log2, Scale::Log10];
    (
        any::<String>(),
        prop::sample::select(units.to_vec()),
        prop::sample::select(scales.to_vec()),
        prop::option::of(number()),
        prop::option::of(number()),
    )
        .prop_map(|(title, unit, scale, from, to)| Axis {
            title,
            unit,
            scale,
            from,
            to,
        })
}

fn marks() -> impl Strategy<Value = Marks> {
    let points = prop::collection::vec((number(), number()), 0..30);
    let series = (any::<String>(), points, any::<bool>(), any::<bool>());
    let series = series.prop_map(|(name, points, dashed, has_points)| Series {
        name,
        points,
        dashed,
        has_points,
    });
    let lines =
        prop::collection::vec(series, 0..40).prop_map(|series| Marks::Lines(Lines { series }));
    let values = prop::collection::vec(prop::option::of(number()), 0..12);
    let bars = (
        prop::collection::vec(any::<String>(), 0..12),
        prop::collection::vec((any::<String>(), values), 0..8),
        any::<bool>(),
    );
    let bars = bars.prop_map(|(groups, series, horizontal)| {
        Marks::Bars(Bars {
            groups,
            series,
            horizontal,
        })
    });
    let values = (1..9_usize, prop::collection::vec(number(), 0..40));
    let heat =
        (values, axis(), number(), number()).prop_map(|((columns, mut values), legend, a, b)| {
            let rows = values.len() / columns;
            values.truncate(rows * columns);
            Marks::Heat(Heat {
                columns,
                rows,
                values,
                x: (a, b),
                y: (b, a),
                legend,
            })
        });
    prop_oneof![lines, bars, heat]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_chart_is_drawn_within_its_bounds(
        title in any::<String>(), x in axis(), y in axis(), marks in marks(),
    ) {
        let chart = Chart { name: title.clone(), title, x, y, marks };
        assert_well_drawn(&chart);
        let picture = png::chart(&chart, 0.25);
        prop_assert!(tiny_skia::Pixmap::decode_png(&picture).is_ok());
        let section = Section { items: vec![Item::Chart(chart)], ..Section::default() };
        let document = Document { sections: vec![section], ..Document::default() };
        prop_assert!(html::document(&document).ends_with("</html>\n"));
    }
}

#[test]
fn the_example_is_drawn_with_its_text() {
    for chart in charts(&example()) {
        assert_well_drawn(chart);
        let scene = scene::of(chart);
        let picture = tiny_skia::Pixmap::decode_png(&png::chart(chart, 2.0)).unwrap();
        assert_eq!(f64::from(picture.width()), (scene.width * 2.0).round());
        assert_eq!(f64::from(picture.height()), (scene.height * 2.0).round());
        for shape in &scene.shapes {
            if let scene::Shape::Text(label) = shape {
                assert!(dark_pixels(&picture, label) > 4, "{label:?}");
            }
        }
        if let Some(dir) = std::env::var_os("REPORT_SCREENSHOTS") {
            let path = std::path::Path::new(&dir).join(format!("{}.png", chart.name));
            picture.save_png(path).unwrap();
        }
    }
}

/// Pixels of text where a label should be, at two pixels per CSS pixel.
fn dark_pixels(picture: &tiny_skia::Pixmap, label: &scene::Label) -> usize {
    let width = font::width(&label.text, label.size);
    let left = match label.anchor {
        scene::Anchor::Start => label.x,
        scene::Anchor::Middle => label.x - width / 2.0,
        scene::Anchor::End => label.x - width,
    };
    let inside = |x: u32, y: u32| {
        let (x, y) = (f64::from(x) / 2.0, f64::from(y) / 2.0);
        (left..left + width).contains(&x) && (label.y - label.size..label.y).contains(&y)
    };
    let all = (0..picture.height()).flat_map(|y| (0..picture.width()).map(move |x| (x, y)));
    let dark =
        |&(x, y): &(u32, u32)| inside(x, y) && picture.pixel(x, y).is_some_and(|p| p.red() < 140);
    all.filter(dark).count()
}

#[test]
fn every_lying_bar_tells_its_value() {
    let bars = Bars {
        groups: vec!["short".to_owned(), "long".to_owned()],
        series: vec![
            ("one".to_owned(), vec![Some(1.0), Some(40.0)]),
            ("other".to_owned(), vec![Some(3.0), Some(100.0)]),
        ],
        horizontal: true,
    };
    let chart = empty(Marks::Bars(bars));
    assert_well_drawn(&chart);
    // What stands at the left of its place; the axis has its marks centred.
    let scene = scene::of(&chart);
    let starts = scene.shapes.iter().filter_map(|shape| match shape {
        scene::Shape::Text(label) if label.anchor == scene::Anchor::Start => Some(&*label.text),
        _ => None,
    });
    let mut starts: Vec<_> = starts.filter(|text| text.parse::<f64>().is_ok()).collect();
    starts.sort_unstable();
    assert_eq!(starts, ["1", "100", "3", "40"]);
}

#[test]
fn charts_without_data_say_so() {
    let heat = Heat {
        columns: 2,
        rows: 1,
        values: vec![f64::NAN; 2],
        ..Heat::default()
    };
    let lines = Lines {
        series: vec![Series {
            points: vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)],
            ..Series::default()
        }],
    };
    for marks in [
        Marks::Lines(lines),
        Marks::Bars(Bars::default()),
        Marks::Heat(heat),
    ] {
        let chart = empty(marks);
        assert!(svg::chart(&chart, Theme::Light).contains(">no data<"));
        assert_well_drawn(&chart);
    }
}

#[test]
fn millions_of_points_make_a_small_file() {
    let points = (0..1_000_000).map(|i| (f64::from(i), f64::from(i % 1000 * 7919 % 1000)));
    let series = Series {
        points: points.collect(),
        has_points: true,
        ..Series::default()
    };
    let chart = empty(Marks::Lines(Lines {
        series: vec![series],
    }));
    let svg = svg::chart(&chart, Theme::Light);
    assert!(svg.len() < 200_000, "{}", svg.len());
}

#[test]
fn a_hostile_name_is_only_text() {
    let name = "</text><script>alert(1)</script>&\u{0}";
    let mut document = example();
    document.title = name.to_owned();
    document.sections[0].heading = name.to_owned();
    document.about.push((name.to_owned(), name.to_owned()));
    let html = html::document(&document);
    assert!(!html.contains("<script") && !html.contains('\0'));
    let Item::Chart(chart) = &mut document.sections[0].items[0] else {
        panic!("the example begins with a chart");
    };
    chart.title = name.to_owned();
    assert_well_drawn(chart);
}
