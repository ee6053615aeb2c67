//! Patch layers.

use super::*;

fn taken(home: &Home) -> Patches {
    work(|work| home.take_patches(&path("web"), work)).unwrap()
}

fn with_image() -> (Place, Home) {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &tar(b"one"));
    take_all(&home);
    (place, home)
}

#[test]
fn layers_are_copied_in_the_order_of_their_names() {
    let (place, home) = with_image();
    assert_eq!(taken(&home), Patches::default());
    place.upload("web.d/20-b.tgz", &gzip(&tar(b"b")));
    place.upload("web.d/10-a.tar", &tar(b"a"));
    place.upload("web.d/.hidden.tar", &tar(b"h"));
    place.upload("web.d/note.txt", b"note");
    assert_eq!(home.scan().unwrap().patched, [path("web")]);
    let patches = taken(&home);
    assert!(patches.changed && patches.refused.is_empty());
    let names: Vec<_> = patches.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["10-a.tar", "20-b.tgz"]);
    for layer in &patches.layers {
        assert!(home.open_image(&layer.sha256).is_ok());
    }
    assert_eq!(home.image(&path("web")).unwrap().patches, patches.layers);
    assert_eq!(
        names_in(&place),
        [".hidden.tar", "10-a.tar", "20-b.tgz", "note.txt"]
    );
    let again = taken(&home);
    assert!(!again.changed && again.layers == patches.layers);
    assert_eq!(place.names("incoming"), [""; 0]);
    // A new version keeps them, and they go with their files.
    place.upload("web.tar", &tar(b"two"));
    take_all(&home);
    assert_eq!(home.image(&path("web")).unwrap().patches, patches.layers);
    fs::remove_dir_all(place.at("web.d")).unwrap();
    assert!(taken(&home).changed);
    assert_eq!(home.image(&path("web")).unwrap().patches, []);
    assert_eq!(home.gc(&|_| false).unwrap().archives.len(), 2);
}

fn names_in(place: &Place) -> Vec<String> {
    names(&place.at("web.d"))
}

#[test]
fn a_layer_that_is_being_uploaded_keeps_the_list_as_it_was() {
    let (place, home) = with_image();
    place.upload("web.d/10-a.tar", &tar(b"a"));
    let before = taken(&home).layers;
    place.upload("web.d/20-b.tar", &tar(b"b"));
    let writing = File::options()
        .append(true)
        .open(place.at("web.d/10-a.tar"));
    let patches = taken(&home);
    assert!(!patches.changed && patches.layers == before);
    assert_eq!(patches.waiting[0].0, "10-a.tar");
    drop(writing);
    unwritten(&place.at("web.d/10-a.tar"));
    assert_eq!(taken(&home).layers.len(), 2);
}

#[test]
fn what_is_no_layer_is_left_out_with_the_reason() {
    let (place, home) = with_image();
    place.upload("web.d/a.tar", &tar(b"a"));
    place.upload("web.d/b.tar", &[b'x'; 4000]);
    place.upload("web.d/c.tar", &entry(b"c"));
    place.upload("web.d/d.tgz", &gzip(&tar(b"d"))[..50]);
    std::os::unix::fs::symlink("/etc/shadow", place.at("web.d/e.tar")).unwrap();
    fs::create_dir(place.at("web.d/f.tar")).unwrap();
    let patches = taken(&home);
    assert_eq!(patches.layers.len(), 1);
    let refused: Vec<_> = patches.refused.iter().map(|r| r.0.as_str()).collect();
    assert_eq!(refused, ["b.tar", "c.tar", "d.tgz", "e.tar", "f.tar"]);
    assert_eq!(place.names("incoming"), [""; 0]);
}

#[test]
fn too_many_layers_are_told_of() {
    let (place, home) = with_image();
    for number in 0..70 {
        place.upload(&format!("web.d/{number:02}.tar"), &tar(b"same"));
    }
    let patches = taken(&home);
    assert_eq!((patches.layers.len(), patches.refused.len()), (64, 6));
    assert_eq!(place.names("archives").len(), 4);
}
