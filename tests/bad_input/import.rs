//! Files with bad rows, through the command line.

use std::fs;

use super::{Scene, complaint, text};

/// Imports a file whose third line is bad: it is named, the rows before it are written, and with `skip` those behind it.
async fn check_bad_line(rows: &str, problem: &str) {
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    fs::write(&file, rows).unwrap();
    let import = ["map", "import", "rows", text(&file), "--key", "id"];
    let (code, said) = complaint(&scene.command(&import).await);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("line 3: {problem}")), "{said}");
    let map = scene.client.raw_map("rows");
    let first = map.get("1").await.unwrap().unwrap();
    assert_eq!((first.value.as_ref(), map.get("2").await.unwrap()), (&br#"{"id":1,"name":"one"}"#[..], None));
    let (code, said) = complaint(&scene.command(&[&import[..], &["--on-error", "skip"]].concat()).await);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("line 3: {problem}")) && said.contains("skipped"), "{said}");
    assert_eq!(map.get("1").await.unwrap().unwrap().value, first.value);
    assert_eq!(map.get("3").await.unwrap().unwrap().value, r#"{"id":3,"name":"three"}"#);
    assert_eq!(map.size().await.unwrap(), 2);
    scene.check_unharmed().await;
}

#[tokio::test]
async fn a_row_with_a_missing_cell_is_named_by_its_line() {
    let problem = r#"the cell "name" is missing: the header has 2 columns, the row has 1"#;
    check_bad_line("id,name\n1,one\n2\n3,three\n", problem).await;
}

#[tokio::test]
async fn a_row_with_a_stray_quote_is_named_by_its_line() {
    check_bad_line("id,name\n1,one\n2,t\"wo\n3,three\n", "bad quoting in column 2").await;
}

#[tokio::test]
async fn a_row_with_a_quote_that_never_closes_is_named_by_its_line() {
    check_bad_line("id,name\n1,one\n2,\"two\n3,three\n", "bad quoting: a quote opens in column 2").await;
}

#[tokio::test]
async fn a_row_with_text_after_its_closing_quote_is_named_by_its_line() {
    check_bad_line("id,name\n1,one\n2,\"tw\"o\n3,three\n", "bad quoting in column 2").await;
}

#[tokio::test]
async fn a_row_with_too_many_cells_is_named_by_its_line() {
    check_bad_line("id,name\n1,one\n2,two,2\n3,three\n", "the header has 2 columns, the row has 3").await;
}

#[tokio::test]
async fn a_key_column_that_is_not_there_is_refused_before_anything_is_written() {
    let scene = Scene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    fs::write(&file, "id,name\n1,one\n").unwrap();
    let output = scene.command(&["map", "import", "rows", text(&file), "--key", "number"]).await;
    let (code, said) = complaint(&output);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(r#"the file has no column "number"; it has id, name"#), "{said}");
    assert_eq!(scene.client.maps().list().await.unwrap().len(), 1);
    scene.check_unharmed().await;
}
