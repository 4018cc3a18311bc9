//! Which rows may be near-duplicates of each other: those that share a band, and those that share one with them.
//!
//! A block is a connected part of that relation. Blocks are small where texts differ, so that each can be compared in full.

/// Rows joined to blocks. Four bytes a row.
#[derive(Clone, Debug)]
pub struct Blocks {
    parent: Vec<u32>,
}

impl Blocks {
    /// Each of `rows` rows for itself.
    pub fn new(rows: usize) -> Blocks {
        Blocks { parent: (0..rows as u32).collect() }
    }

    /// The first row of the block of `row`.
    pub fn first(&mut self, mut row: u32) -> u32 {
        while self.parent[row as usize] != row {
            let grandparent = self.parent[self.parent[row as usize] as usize];
            self.parent[row as usize] = grandparent;
            row = grandparent;
        }
        row
    }

    /// Joins the blocks of two rows.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.first(a), self.first(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    /// The rows of all blocks of at least two, block by block: blocks in the order of their first rows, rows in theirs; and
    /// where each block ends.
    pub fn members(&mut self) -> (Vec<u32>, Vec<usize>) {
        let rows = self.parent.len() as u32;
        let mut grouped: Vec<u64> = Vec::new();
        for row in 0..rows {
            let first = self.first(row);
            if first != row {
                grouped.push(u64::from(first) << 32 | u64::from(row));
            }
        }
        grouped.sort_unstable();
        let (mut members, mut ends) = (Vec::new(), Vec::new());
        for block in grouped.chunk_by(|a, b| a >> 32 == b >> 32) {
            members.push((block[0] >> 32) as u32);
            members.extend(block.iter().map(|&pair| pair as u32));
            ends.push(members.len());
        }
        (members, ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_depend_on_the_order_of_the_joins() {
        let pairs = [(5, 3), (3, 9), (1, 2), (7, 7), (9, 5)];
        for turn in 0..pairs.len() {
            let mut blocks = Blocks::new(10);
            for at in 0..pairs.len() {
                let (a, b) = pairs[(at + turn) % pairs.len()];
                blocks.join(a, b);
            }
            assert_eq!(blocks.members(), (vec![1, 2, 3, 5, 9], vec![2, 5]));
        }
    }
}
