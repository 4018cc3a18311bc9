//! The word lists: abbreviations and other words whose dot ends nothing, words that are no sentence's beginning.
//!
//! All lists are in lowercase and sorted (a test says so), so that a look-up is a binary search.

/// Whether `word`, in lowercase, is on `list`.
pub(super) fn listed(list: &[&str], word: &str) -> bool {
    list.binary_search(&word).is_ok()
}

/// Words that are written with a dot: English first, then the commonest of Spanish, Portuguese, Italian, French, Danish, Swedish, Polish
/// and Russian. Words without a vowel (`vs`, `dr`, `tbsp`) need no entry, nor do those with a dot inside (`e.g`, `u.s`).
pub(super) const ABBREVIATIONS: &[&str] = &[
    "abbr", "abs", "abt", "acad", "adj", "adm", "admin", "adv", "afd", "al", "alt", "anat", "anon", "ap", "apdo",
    "approx", "appt", "apr", "apt", "arch", "arr", "asoc", "assn", "assoc", "asst", "atty", "aug", "auth", "av",
    "avda", "ave", "avg", "bibl", "biol", "bl", "bldg", "blvd", "bnr", "bros", "ca", "cal", "calc", "cap", "capt",
    "cent", "cert", "cf", "ch", "chap", "chem", "cia", "cie", "cit", "co", "coll", "colloq", "comp", "conf", "cong",
    "conj", "cons", "cont", "contd", "corp", "cpl", "ctr", "cu", "def", "deg", "dep", "dept", "diam", "dim", "dir",
    "dist", "div", "doz", "ea", "ecol", "econ", "ed", "edn", "eds", "eg", "encl", "env", "eq", "eqn", "eqs", "equiv",
    "esp", "esq", "est", "etc", "ex", "exc", "excl", "exr", "ext", "fam", "fasc", "feb", "fem", "fig", "figs", "fl",
    "foll", "fr", "freq", "fri", "gen", "geo", "geog", "geol", "geom", "ger", "gov", "govt", "hist", "hon", "hosp",
    "hwy", "ibid", "ie", "illus", "inc", "incl", "ind", "inf", "inst", "intl", "intr", "isl", "ital", "jan", "jr",
    "jul", "jun", "lang", "lat", "lic", "lieut", "ling", "lt", "ltd", "ltda", "maj", "masc", "max", "med", "medic",
    "mex", "mfg", "mgr", "mil", "min", "mins", "misc", "mod", "mon", "msgr", "mt", "mtn", "mun", "mus", "myth", "nat",
    "natl", "nb", "neg", "neut", "nom", "nos", "nov", "np", "num", "núm", "obj", "obs", "oct", "op", "opp", "orig",
    "osv", "oz", "pag", "pers", "phil", "phon", "phys", "pl", "plc", "plur", "pos", "poss", "pp", "pref", "prep",
    "pres", "prev", "prob", "proc", "prof", "profa", "pron", "prov", "pseud", "psych", "pt", "pte", "pts", "pty",
    "pub", "publ", "pvt", "pág", "págs", "qt", "qtd", "qtr", "qty", "recd", "refs", "reg", "repr", "ret", "rev", "riv",
    "rpt", "rte", "sci", "sec", "sect", "sen", "sep", "sept", "seq", "ser", "soc", "sp", "spp", "sq", "sr", "sra",
    "sta", "stat", "std", "ste", "subj", "subsp", "sup", "supp", "suppl", "supt", "syn", "tech", "tel", "thu", "thur",
    "thurs", "tlf", "tue", "tues", "twp", "univ", "usu", "usw", "va", "var", "vd", "vers", "vet", "viz", "vol", "vols",
    "vs", "wed", "wk", "yd", "yr", "yrs", "āp", "гл", "др", "ил", "им", "кв", "пр", "рис", "руб", "см", "стр", "тел",
    "тыс", "ул",
];

/// Names that end in a mark of their own.
pub(super) const NAMES_WITH_A_MARK: &[&str] = &["jeopardy", "joomla", "oklahoma", "wham", "yahoo", "yum"];

/// Exclamations after which older prose goes on in lowercase: "Oh! what a day".
pub(super) const EXCLAMATIONS: &[&str] = &["ah", "aha", "alas", "ha", "hark", "lo", "o", "oh"];

/// What follows a quoted question or shout: `Really? asked Ann`.
pub(super) const SPEECH: &[&str] = &[
    "added",
    "announced",
    "answered",
    "asked",
    "asks",
    "began",
    "bellowed",
    "boomed",
    "called",
    "cried",
    "declared",
    "exclaimed",
    "gasped",
    "growled",
    "inquired",
    "laughed",
    "mused",
    "muttered",
    "replied",
    "responded",
    "roared",
    "said",
    "says",
    "screamed",
    "shouted",
    "sighed",
    "thought",
    "whispered",
    "wondered",
    "yelled",
];

/// What follows a name that ends in a mark: "Yahoo! is", "Panic! at the Disco".
pub(super) const AFTER_NAMES: &[&str] = &[
    "and", "are", "at", "became", "by", "can", "had", "has", "have", "in", "is", "of", "was", "were", "will", "would",
];

/// Words that end no sentence: a mark behind them belongs to a formula ("and! denotes the factorial").
pub(super) const NEVER_LAST: &[&str] = &["a", "an", "and", "or", "the"];

/// Words that continue a sentence which the person began: a turn that opens with one is half a sentence.
pub(super) const NEVER_FIRST: &[&str] =
    &["and", "are", "is", "of", "or", "than", "that", "was", "were", "which", "who", "whose"];

/// Words of two letters that start a sentence; the others are variables ("fp is the fraction"). English, then French, Italian, Portuguese
/// and Spanish.
pub(super) const TWO_LETTERS: &[&str] = &[
    "ah", "al", "am", "an", "as", "at", "be", "by", "ce", "da", "de", "di", "do", "du", "el", "em", "en", "es", "et",
    "eu", "go", "ha", "he", "hi", "ho", "if", "il", "in", "io", "is", "it", "je", "já", "la", "le", "lo", "ma", "me",
    "mi", "my", "no", "of", "oh", "ok", "on", "or", "os", "ou", "où", "sa", "se", "si", "so", "só", "to", "tu", "um",
    "un", "up", "us", "we", "ya", "ye", "yo", "ça", "él",
];

/// Programs and libraries that stay lowercase at the start of a sentence.
pub(super) const COMMANDS: &[&str] = &[
    "apt",
    "awk",
    "bash",
    "cargo",
    "chmod",
    "chown",
    "cmake",
    "cmd",
    "conda",
    "const",
    "cron",
    "curl",
    "def",
    "docker",
    "echo",
    "elif",
    "ffmpeg",
    "func",
    "gcc",
    "git",
    "grep",
    "gzip",
    "html",
    "http",
    "https",
    "iphone",
    "jq",
    "kubectl",
    "linux",
    "localhost",
    "ls",
    "matplotlib",
    "mkdir",
    "mysql",
    "nginx",
    "nmap",
    "npm",
    "npx",
    "numpy",
    "pandas",
    "pip",
    "printf",
    "println",
    "psql",
    "pytest",
    "regex",
    "rsync",
    "scikit-learn",
    "scipy",
    "sed",
    "ssh",
    "stderr",
    "stdin",
    "stdout",
    "struct",
    "sudo",
    "systemctl",
    "tmux",
    "torch",
    "ubuntu",
    "unzip",
    "vim",
    "void",
    "wget",
    "xargs",
    "yarn",
    "zsh",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [
            ABBREVIATIONS,
            NAMES_WITH_A_MARK,
            EXCLAMATIONS,
            SPEECH,
            AFTER_NAMES,
            NEVER_LAST,
            NEVER_FIRST,
            TWO_LETTERS,
            COMMANDS,
        ] {
            let wrong: Vec<_> = list.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }
}
