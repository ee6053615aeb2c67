//! A report as one HTML file: no script, nothing from anywhere else, light or dark
//! as the reader likes it, light in print. Each chart has its numbers below it.

use std::fmt::Write as _;

use super::colour::{self, Theme};
use super::data::chart_table;
use super::markup::escaped;
use super::model::{Align, Chart, Document, Item, Table};
use super::{svg, value};

const STYLE: &str = include_str!("html.css");
/// Rows of numbers below a chart; all of them are in the CSV.
const CHART_ROWS_MAX: usize = 400;
/// Rows of a table; more are for a program.
const TABLE_ROWS_MAX: usize = 20_000;

/// The whole file.
pub fn document(document: &Document) -> String {
    let title = escaped(&document.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; img-src data:\">\n\
         <title>{title}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n",
        variables()
    );
    if !document.about.is_empty() {
        html.push_str("<dl>\n");
        for (name, fact) in &document.about {
            let (name, fact) = (escaped(name), escaped(fact));
            let _infallible = writeln!(html, "<dt>{name}</dt><dd>{fact}</dd>");
        }
        html.push_str("</dl>\n");
    }
    for section in &document.sections {
        let heading = escaped(&section.heading);
        let _infallible = writeln!(html, "<section>\n<h2>{heading}</h2>");
        for text in &section.text {
            let _infallible = writeln!(html, "<p>{}</p>", escaped(text));
        }
        let is_table = |item: &&Item| matches!(item, Item::Table(_));
        let tables = section.items.iter().filter(is_table).count();
        for item in &section.items {
            match item {
                Item::Table(one) => {
                    html.push_str("<figure>\n");
                    // The only one is what the heading says.
                    if tables > 1 {
                        let name = escaped(&one.name);
                        let _infallible = writeln!(html, "<figcaption>{name}</figcaption>");
                    }
                    table(
                        &mut html,
                        one,
                        one.rows.len().saturating_sub(TABLE_ROWS_MAX),
                    );
                    html.push_str("</figure>\n");
                }
                Item::Chart(one) => chart(&mut html, one),
            }
        }
        html.push_str("</section>\n");
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn variables() -> String {
    let set = |theme| {
        let one = |(ink, name)| format!("{name}: {}; ", colour::hex(colour::rgb(ink, theme)));
        colour::variables().map(one).collect::<String>()
    };
    format!(
        ":root {{ color-scheme: light dark; {} }}\n\
         @media screen and (prefers-color-scheme: dark) {{ :root {{ {} }} }}\n",
        set(Theme::Light),
        set(Theme::Dark)
    )
}

fn chart(html: &mut String, chart: &Chart) {
    html.push_str("<figure>\n");
    html.push_str(&svg::chart(chart, Theme::Page));
    let (numbers, left_out) = chart_table(chart, CHART_ROWS_MAX);
    html.push_str("<details><summary>The numbers</summary>\n");
    table(html, &numbers, left_out);
    html.push_str("</details>\n</figure>\n");
}

/// A table without its last rows if there are too many.
fn table(html: &mut String, table: &Table, left_out: usize) {
    html.push_str("<div class=\"wide\" tabindex=\"0\">\n<table>\n<thead><tr>");
    let class = |align| match align {
        Align::Left => "",
        Align::Right => " class=\"r\"",
    };
    for column in &table.columns {
        let (class, title) = (class(column.align), escaped(&column.title));
        let _infallible = write!(html, "<th scope=\"col\"{class}>{title}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in table.rows.iter().take(TABLE_ROWS_MAX) {
        html.push_str("<tr>");
        for (i, column) in table.columns.iter().enumerate() {
            let text = row.get(i).map_or(value::MISSING.to_owned(), value::cell);
            let (class, text) = (class(column.align), escaped(&text));
            let _infallible = write!(html, "<td{class}>{text}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    if left_out > 0 {
        let left_out = crate::text::count(left_out as u64);
        let _infallible = writeln!(html, "<p>{left_out} more rows are not shown here.</p>");
    }
}
