//! Pseudonyms and keys of persons: made once, found again, gone when they are destroyed.

use std::sync::mpsc;

use super::*;
use symbi_types::SystemEntropy;

fn at(data: &Path, backups: &[PathBuf]) -> Subjects {
    let keys = Arc::new(Keys::open(&data.join("keys"), false, &SystemEntropy, None).unwrap());
    let directory = Subjects::of_data(data);
    Subjects::new(directory, backups.to_vec(), Provider::default(), keys, Arc::new(SystemEntropy))
}

fn holds(directory: &Path, name: &str) -> bool {
    directory.join(name).exists()
}

#[test]
fn er1_er2_what_belongs_to_several_needs_the_keys_of_all_and_without_one_nothing_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let subjects = at(data.path(), &[]);
    let both = subjects.labels_of("ann").unwrap().union(&subjects.labels_of("bob").unwrap());
    let sealed = Subjects::seal(&subjects, &both, b"theirs").unwrap();
    assert!(!sealed.contains("theirs") && !sealed.contains("ann"), "ER1");
    assert_eq!(subjects.open_any(&sealed), Opened::Plain(b"theirs".to_vec()));
    assert_eq!(at(data.path(), &[]).open_any(&sealed), Opened::Plain(b"theirs".to_vec()), "later too");
    let digest = Subjects::digest(&subjects, &both, &[b"theirs"]);
    assert_eq!(Subjects::digest(&subjects, &both, &[b"theirs"]), digest, "equal values are recognised");
    let bob = subjects.known("bob").unwrap().unwrap();
    subjects.destroy(&bob).unwrap();
    assert_eq!(subjects.open_any(&sealed), Opened::Erased, "ER2");
    assert_eq!(at(data.path(), &[]).open_any(&sealed), Opened::Erased, "ER2");
    assert_ne!(Subjects::digest(&subjects, &both, &[b"theirs"]), digest);
    let nothing = Subjects::seal(&subjects, &both, b"theirs").unwrap();
    assert!(nothing.ends_with(':') && !subjects.can_seal(&both), "ER1");
    assert_eq!(Subjects::seal(&subjects, &LabelSet::default(), b"of nobody"), None);
}

#[test]
fn er3_er4_a_key_lies_in_each_backup_and_is_destroyed_in_each_and_its_person_comes_back_as_another() {
    let (data, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let gone = data.path().join("gone");
    let backups = [backup.path().to_owned()];
    let subjects = at(data.path(), &backups);
    let ann = subjects.pseudonym("ann").unwrap();
    assert_eq!(subjects.pseudonym("ann").unwrap(), ann, "one person, one pseudonym");
    let own = data.path().join("keys/subjects");
    assert!(holds(&own, &ann) && holds(backup.path(), &ann), "ER3");
    let copy = fs::read(own.join(&ann)).unwrap();
    assert_eq!(subjects.destroy(&ann).unwrap(), Vec::<PathBuf>::new());
    assert!(!holds(&own, &ann) && !holds(backup.path(), &ann), "ER4");
    assert_eq!(fs::read_dir(own.join("names")).unwrap().count(), 0);
    fs::write(own.join(&ann), copy).unwrap();
    assert!(subjects.lies_about(&ann) && !subjects.has(&ann), "ER4: it never gets a key again");
    subjects.destroy(&ann).unwrap();
    assert_ne!(subjects.pseudonym("ann").unwrap(), ann);
    let elsewhere = at(data.path(), std::slice::from_ref(&gone));
    let unreached = elsewhere.destroy(&subjects.pseudonym("ann").unwrap()).unwrap();
    assert_eq!(unreached, std::slice::from_ref(&gone), "what was not reached is told");
    assert!(elsewhere.pseudonym("bob").is_err() && !gone.exists(), "ER3: no copy, no key");
}

/// Randomness that is a while coming: it says that it was asked for, and waits until it may answer.
struct Slow(Mutex<mpsc::Sender<()>>, Mutex<mpsc::Receiver<()>>);

impl Entropy for Slow {
    fn fill(&self, destination: &mut [u8]) {
        let _ = lock(&self.0).send(());
        let _ = lock(&self.1).recv();
        SystemEntropy.fill(destination);
    }
}

#[test]
fn er3_a_key_that_is_being_made_holds_up_nobody_whose_key_is_there() {
    let data = tempfile::tempdir().unwrap();
    let ann = at(data.path(), &[]).labels_of("ann").unwrap();
    let keys = Arc::new(Keys::open(&data.path().join("keys"), false, &SystemEntropy, None).unwrap());
    let ((asks, asked), (lets, let_go)) = (mpsc::channel(), mpsc::channel());
    let slow = Arc::new(Slow(Mutex::new(asks), Mutex::new(let_go)));
    let directory = Subjects::of_data(data.path());
    let subjects = Subjects::new(directory, Vec::new(), Provider::default(), keys, slow);
    let (done, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        let of_bob = [(); 2].map(|()| scope.spawn(|| subjects.pseudonym("bob").unwrap()));
        asked.recv().unwrap();
        scope.spawn(|| done.send((subjects.can_seal(&ann), subjects.known("ann").unwrap().is_some())));
        let answer = answers.recv_timeout(std::time::Duration::from_secs(5));
        drop(lets); // from here on it answers at once
        assert_eq!(answer, Ok((true, true)), "ER3: bob's key is on its way to the disk, and ann's is there");
        let [first, second] = of_bob.map(|one| one.join().unwrap());
        assert_eq!(first, second, "one person, one pseudonym");
    });
    assert_eq!(subjects.all_of("bob").unwrap().len(), 1);
}

#[test]
fn a_person_is_found_by_name_without_a_look_at_the_keys_of_all_others() {
    let data = tempfile::tempdir().unwrap();
    let subjects = at(data.path(), &[]);
    let [ann, bob] = ["ann", "bob"].map(|name| subjects.pseudonym(name).unwrap());
    let own = data.path().join("keys/subjects");
    fs::write(own.join(&bob), "damaged").unwrap();
    assert_eq!(subjects.known("ann").unwrap().as_ref(), Some(&ann));
    assert_eq!(at(data.path(), &[]).known("ann").unwrap().as_ref(), Some(&ann), "in a later opening too");
    fs::remove_file(own.join(&bob)).unwrap();
    fs::remove_dir_all(own.join("names")).unwrap();
    let later = at(data.path(), &[]);
    assert_eq!(later.known("ann").unwrap().as_ref(), Some(&ann), "what leads from the name was lost");
    assert_eq!(later.known("bob").unwrap(), None);
    later.destroy(&ann).unwrap();
    assert_eq!((later.known("ann").unwrap(), subjects.all_of("ann").unwrap()), (None, Vec::new()));
}

#[test]
fn a_key_file_of_another_runtime_or_damaged_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (at(one.path(), &[]), at(two.path(), &[]));
    let ann = here.pseudonym("ann").unwrap();
    there.pseudonym("bob").unwrap();
    fs::copy(one.path().join("keys/subjects").join(&ann), two.path().join("keys/subjects").join(&ann))
        .unwrap();
    assert!(matches!(there.load(&ann), Err(SubjectError::Foreign { .. })));
    assert!(!there.has(&ann));
}
