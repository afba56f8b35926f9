//! The test matrix Ω of a Nyström sketch: d × ℓ with orthonormal columns, drawn in one of three ways. The approximation depends on its range
//! alone, so that signs need not be stored: with S of random signs, drawn again from their key wherever some of its rows are needed, and W
//! an ℓ × ℓ matrix that makes its columns orthonormal, Ω = SW. SᵀS has whole numbers for entries, so that W carries no rounding of d terms.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::dense::{
    Matrix, PASS, RUN, TallRows, axpy, check_shape, each_run, eigh, matmul, matmul_add, matmul_add_here, qr, sum_over_rows,
};
use crate::error::{Error, Result, check_len};
use crate::gradient::GradientBlock;
use crate::par;
use crate::rng::Key;

/// How the test matrix Ω is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestMatrix {
    /// Independent standard normal entries, stored.
    #[default]
    Gaussian,
    /// In each row min(ℓ, 8) random signs at random places (Tropp, Yurtsever, Udell & Cevher 2019, section 3.3), stored.
    SparseSign,
    /// Independent random signs, which take no memory: half of the sketch's is saved, and the probes' as much. Both are drawn again where they
    /// are needed: what that costs beside the products is little for blocks of a hundred rows, and as much as they do for ten.
    Sign,
}

/// Ω itself. The order of the variants is the layout of saved bytes: the first two are those of version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Omega {
    Gaussian(Matrix),
    SparseSign(Matrix),
    Sign(Signs),
    /// Signs with columns so nearly dependent that W would cost digits: as large a part of d as ℓ is then, they may as well be stored.
    StoredSign(Matrix),
}

/// S and W.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedSigns")]
pub(super) struct Signs {
    dim: usize,
    /// What adjacent columns are drawn from, and how many they are.
    drawn: Vec<(Key, usize)>,
    /// W, ℓ × ℓ.
    mixing: Matrix,
}

/// Signs as they were read, not yet checked.
#[derive(Deserialize)]
struct UncheckedSigns {
    dim: usize,
    drawn: Vec<(Key, usize)>,
    mixing: Matrix,
}

impl TryFrom<UncheckedSigns> for Signs {
    type Error = Error;

    fn try_from(UncheckedSigns { dim, drawn, mixing }: UncheckedSigns) -> Result<Self> {
        let columns = drawn.iter().fold(0_usize, |sum, (_, count)| sum.saturating_add(*count));
        check_shape("signs", &mixing, columns, columns)?;
        Ok(Self { dim, drawn, mixing })
    }
}

/// SᵀS may have a condition number up to this: W then costs a digit at most, and ℓ up to a third of d passes.
const MOST_CONDITION: f64 = 16.0;

impl TestMatrix {
    /// The matrix as it is drawn, not yet orthonormal.
    fn draw(self, dim: usize, size: usize, key: Key) -> Result<Matrix> {
        let mut stream = key.stream();
        match self {
            Self::Gaussian => Matrix::from_columns(dim, size, stream.normals(dim * size)),
            Self::SparseSign => {
                let mut omega = Matrix::zeros(dim, size);
                for i in 0..dim {
                    for j in stream.permutation(size).into_iter().take(8) {
                        omega[(i, j)] = if stream.uniform() < 0.5 { -1.0 } else { 1.0 };
                    }
                }
                Ok(omega)
            }
            Self::Sign => Ok(Signs::unmixed(dim, vec![(sign_key(key), size)]).to_matrix()),
        }
    }
}

fn sign_key(key: Key) -> Key {
    key.named("signs")
}

impl Omega {
    /// Draws d × ℓ entries.
    ///
    /// # Errors
    /// [`Error::Numerical`] if a factorization fails.
    pub(super) fn draw(kind: TestMatrix, dim: usize, size: usize, key: Key) -> Result<Self> {
        match kind {
            TestMatrix::Sign => Self::mixed(Signs::unmixed(dim, vec![(sign_key(key), size)])),
            stored => Self::spanned_by(stored, &stored.draw(dim, size, key)?),
        }
    }

    /// A matrix with the range of a given one, to be stored.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub(super) fn spanned_by(kind: TestMatrix, omega: &Matrix) -> Result<Self> {
        Ok(Self::stored(kind, qr(omega)?.0))
    }

    fn stored(kind: TestMatrix, omega: Matrix) -> Self {
        match kind {
            TestMatrix::Gaussian => Self::Gaussian(omega),
            TestMatrix::SparseSign => Self::SparseSign(omega),
            TestMatrix::Sign => Self::StoredSign(omega),
        }
    }

    /// Signs with the W that makes them orthonormal: W = V diag(λ)^{-1/2} for SᵀS = V diag(λ) Vᵀ.
    fn mixed(mut signs: Signs) -> Result<Self> {
        let size = signs.ncols();
        let eigen = eigh(&signs.gram()?)?;
        if eigen.values[size - 1] * MOST_CONDITION < eigen.values[0] {
            return Self::spanned_by(TestMatrix::Sign, &signs.to_matrix());
        }
        signs.mixing = Matrix::from_fn(size, size, |i, j| eigen.vectors[(i, j)] / eigen.values[j].sqrt());
        Ok(Self::Sign(signs))
    }

    /// How it was drawn.
    pub(super) fn kind(&self) -> TestMatrix {
        match self {
            Self::Gaussian(_) => TestMatrix::Gaussian,
            Self::SparseSign(_) => TestMatrix::SparseSign,
            Self::Sign(_) | Self::StoredSign(_) => TestMatrix::Sign,
        }
    }

    /// d.
    pub(super) fn dim(&self) -> usize {
        match self {
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => omega.nrows(),
            Self::Sign(signs) => signs.dim,
        }
    }

    /// ℓ.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => omega.ncols(),
            Self::Sign(signs) => signs.ncols(),
        }
    }

    /// GΩ, and the squared norm of every row of G: 2·d·ℓ flops a row.
    ///
    /// # Errors
    /// As [`GradientBlock::project_with_norms`].
    pub(super) fn project(&self, block: &GradientBlock) -> Result<(Matrix, Vec<f64>)> {
        match self {
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => block.project_with_norms(omega),
            Self::Sign(signs) => {
                let (product, squares) = block.project_made(signs)?;
                Ok((matmul(&product, &signs.mixing)?, squares))
            }
        }
    }

    /// ΩᵀY, for Y d × n.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(super) fn transpose_times(&self, y: &Matrix) -> Result<Matrix> {
        match self {
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => matmul(omega.t(), y),
            Self::Sign(signs) => {
                check_len("y", y.nrows(), signs.dim)?;
                let product =
                    signs.sum_over_tiles(y.ncols(), |sum, tile, rows| matmul_add_here(sum, 1.0, tile.t(), y.rows(rows)))?;
                matmul(signs.mixing.t(), &product)
            }
        }
    }

    /// Adds α times some rows of Ω to a matrix of their shape.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(super) fn add_rows(&self, rows: Range<usize>, alpha: f64, tile: &mut Matrix) -> Result<()> {
        match self {
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => {
                check_shape("tile", &*tile, rows.len(), omega.ncols())?;
                (0..omega.ncols()).for_each(|j| axpy(alpha, &omega.col(j)[rows.clone()], tile.col_mut(j)));
                Ok(())
            }
            Self::Sign(signs) => {
                let mut drawn = Matrix::zeros(rows.len(), signs.ncols());
                signs.fill(rows, &mut drawn);
                matmul_add_here(tile, alpha, &drawn, &signs.mixing)
            }
        }
    }

    /// Ω, entry by entry.
    ///
    /// # Errors
    /// [`Error::Shape`] never.
    pub(super) fn to_matrix(&self) -> Result<Matrix> {
        match self {
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => Ok(omega.clone()),
            Self::Sign(_) => {
                let mut all = Matrix::zeros(self.dim(), self.size());
                let added = each_run(&mut all, RUN, &|rows, part| self.add_rows(rows, 1.0, part));
                added.into_iter().collect::<Result<()>>()?;
                Ok(all)
            }
        }
    }

    /// Another one of ℓ = `size`, whose range holds this one's.
    ///
    /// # Errors
    /// As [`draw`](Self::draw).
    pub(super) fn grown(&self, size: usize, key: Key) -> Result<Self> {
        let (kind, present, key) = (self.kind(), self.size(), key.named("growth").child(self.size() as u64));
        let omega = match self {
            Self::Sign(signs) => {
                let drawn = signs.drawn.iter().copied().chain([(sign_key(key), size - present)]).collect();
                return Self::mixed(Signs::unmixed(signs.dim, drawn));
            }
            Self::Gaussian(omega) | Self::SparseSign(omega) | Self::StoredSign(omega) => omega,
        };
        let mut fresh = kind.draw(self.dim(), size - present, key)?;
        for _ in 0..2 {
            let overlap = matmul(omega.t(), &fresh)?;
            matmul_add(&mut fresh, -1.0, omega, &overlap)?;
            fresh = qr(&fresh)?.0;
        }
        let all = [omega.as_slice(), fresh.as_slice()].concat();
        Ok(Self::stored(kind, Matrix::from_columns(self.dim(), size, all)?))
    }
}

/// Rows that are drawn at once, each such unit from a stream of its own: 64 a word.
const UNIT: usize = PASS;
const WORDS: usize = UNIT / 64;

/// What four bits stand for: +1 for a bit that is not set.
static FOUR_SIGNS: [[f64; 4]; 16] = {
    let mut table = [[1.0; 4]; 16];
    let mut i = 0;
    while i < 64 {
        if (i / 4) >> (i % 4) & 1 == 1 {
            table[i / 4][i % 4] = -1.0;
        }
        i += 1;
    }
    table
};

impl Signs {
    /// S, with no W yet.
    fn unmixed(dim: usize, drawn: Vec<(Key, usize)>) -> Self {
        Self { dim, drawn, mixing: Matrix::zeros(0, 0) }
    }

    /// Σ over tiles of rows of S of what `add` adds, given the tile and where it stands, to an ℓ × `columns` matrix.
    fn sum_over_tiles(
        &self,
        columns: usize,
        add: impl Fn(&mut Matrix, &Matrix, Range<usize>) -> Result<()> + Sync,
    ) -> Result<Matrix> {
        sum_over_rows(self.dim, (self.ncols(), columns), &|rows, sum| {
            let mut tile = Matrix::zeros(0, 0);
            for rows in par::blocks_of(rows, UNIT) {
                tile.reshape(rows.len(), self.ncols());
                self.fill(rows.clone(), &mut tile);
                add(sum, &tile, rows)?;
            }
            Ok(())
        })
    }

    /// SᵀS, exactly: its entries are whole numbers of at most d.
    fn gram(&self) -> Result<Matrix> {
        self.sum_over_tiles(self.ncols(), |sum, tile, _| matmul_add_here(sum, 1.0, tile.t(), tile))
    }

    /// S, entry by entry.
    fn to_matrix(&self) -> Matrix {
        let mut all = Matrix::zeros(self.dim, self.ncols());
        self.fill(0..self.dim, &mut all);
        all
    }
}

impl TallRows for Signs {
    fn nrows(&self) -> usize {
        self.dim
    }

    fn ncols(&self) -> usize {
        self.drawn.iter().map(|(_, count)| count).sum()
    }

    fn fill(&self, rows: Range<usize>, tile: &mut Matrix) {
        for unit in rows.start / UNIT..rows.end.div_ceil(UNIT) {
            let first = unit * UNIT;
            let part = rows.start.max(first)..rows.end.min(first + UNIT);
            let place = part.start - rows.start..part.end - rows.start;
            let mut column = 0;
            for &(key, count) in &self.drawn {
                let mut stream = key.child(unit as u64).stream();
                for _ in 0..count {
                    let words: [u64; WORDS] = std::array::from_fn(|_| stream.bits());
                    expand(&words, part.start - first, &mut tile.col_mut(column)[place.clone()]);
                    column += 1;
                }
            }
        }
    }
}

/// The signs of the bits from `first` on.
fn expand(words: &[u64; WORDS], first: usize, signs: &mut [f64]) {
    let bits = |place: usize| words[place / 64] >> (place % 64);
    let single = |place: usize| FOUR_SIGNS[(bits(place) & 1) as usize][0];
    let before = (first.next_multiple_of(4) - first).min(signs.len());
    let (head, body) = signs.split_at_mut(before);
    head.iter_mut().enumerate().for_each(|(i, sign)| *sign = single(first + i));
    let (fours, tail) = body.as_chunks_mut::<4>();
    let (start, end) = (first + before, first + before + 4 * fours.len());
    fours.iter_mut().enumerate().for_each(|(i, four)| *four = FOUR_SIGNS[(bits(start + 4 * i) & 15) as usize]);
    tail.iter_mut().enumerate().for_each(|(i, sign)| *sign = single(end + i));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::relative_error;

    fn signs(dim: usize, drawn: &[usize]) -> Signs {
        Signs::unmixed(dim, drawn.iter().enumerate().map(|(i, &count)| (Key::new(i as u64), count)).collect())
    }

    /// Bit i of word w of column j, of the stream of its unit, column after column: the definition, entry by entry.
    #[test]
    fn every_part_of_the_rows_has_the_signs_of_its_bits() {
        let signs = signs(3 * UNIT + 7, &[3, 1, 2]);
        let mut expected = Matrix::zeros(signs.nrows(), signs.ncols());
        for unit in 0..4 {
            let mut column = 0;
            for &(key, count) in &signs.drawn {
                let mut stream = key.child(unit as u64).stream();
                for j in column..column + count {
                    let words: Vec<u64> = (0..WORDS).map(|_| stream.bits()).collect();
                    for i in unit * UNIT..((unit + 1) * UNIT).min(signs.nrows()) {
                        let bit = words[(i % UNIT) / 64] >> (i % 64) & 1;
                        expected[(i, j)] = 1.0 - 2.0 * bit as f64;
                    }
                }
                column += count;
            }
        }
        assert_eq!(signs.to_matrix(), expected);
        for (start, end) in [(0, 1), (1, 2), (3, 4), (1, 70), (63, 65), (250, 260), (255, 770), (256, 512), (770, 775), (5, 5)] {
            let mut tile = Matrix::zeros(end - start, signs.ncols());
            signs.fill(start..end, &mut tile);
            assert_eq!(tile, expected.rows(start..end).to_matrix(), "{start}..{end}");
        }
    }

    /// Half of the signs are positive and columns are independent: sums of n independent signs have the standard deviation √n.
    #[test]
    fn signs_are_fair_and_independent() {
        let all = signs(20_000, &[4, 3]).to_matrix();
        let deviation = (all.nrows() as f64).sqrt();
        for j in 0..7 {
            let column = all.col(j);
            assert!(column.iter().sum::<f64>().abs() < 5.0 * deviation, "column {j}");
            for lag in [1, 2, 64, UNIT] {
                let sum: f64 = column.iter().zip(&column[lag..]).map(|(a, b)| a * b).sum();
                assert!(sum.abs() < 5.0 * deviation, "column {j}, lag {lag}");
            }
            for i in 0..j {
                let sum: f64 = column.iter().zip(all.col(i)).map(|(a, b)| a * b).sum();
                assert!(sum.abs() < 5.0 * deviation, "columns {i} and {j}");
            }
        }
    }

    #[test]
    fn every_kind_has_orthonormal_columns_that_span_what_was_drawn() {
        for kind in [TestMatrix::Gaussian, TestMatrix::SparseSign, TestMatrix::Sign] {
            for (dim, size) in [(1, 1), (2, 1), (2, 2), (63, 5), (64, 64), (65, 20), (127, 126), (1000, 127), (5000, 64)] {
                let key = Key::new(dim as u64);
                let omega = Omega::draw(kind, dim, size, key).unwrap();
                assert_eq!((omega.kind(), omega.dim(), omega.size()), (kind, dim, size));
                let matrix = omega.to_matrix().unwrap();
                let mut gram = matmul(matrix.t(), &matrix).unwrap();
                gram.add_scaled(-1.0, &Matrix::identity(size)).unwrap();
                assert!(gram.norm() < 1e-13 * size as f64, "{kind:?}, {dim} × {size}: {:e}", gram.norm());
                // What was drawn lies in the range: ΩΩᵀD = D.
                let drawn = kind.draw(dim, size, key).unwrap();
                let again = matmul(&matrix, &matmul(matrix.t(), &drawn).unwrap()).unwrap();
                let error = relative_error(again.as_slice(), drawn.as_slice());
                assert!(error < 1e-12, "{kind:?}, {dim} × {size}: {error:e}");
                // So does the range of a smaller one in that of one grown from it.
                if size < dim {
                    let grown = omega.grown(size + 1, Key::new(9)).unwrap().to_matrix().unwrap();
                    let again = matmul(&grown, &matmul(grown.t(), &matrix).unwrap()).unwrap();
                    assert!(relative_error(again.as_slice(), matrix.as_slice()) < 1e-12, "{kind:?}, {dim} × {size} grown");
                }
            }
        }
        // Few columns are never stored, nearly square ones are.
        assert!(matches!(Omega::draw(TestMatrix::Sign, 1000, 127, Key::new(0)).unwrap(), Omega::Sign(_)));
        assert!(matches!(Omega::draw(TestMatrix::Sign, 127, 126, Key::new(0)).unwrap(), Omega::StoredSign(_)));
    }

    #[test]
    fn products_are_those_of_the_explicit_matrix() {
        for (dim, size) in [(1, 1), (64, 3), (1000, 40), (9001, 17)] {
            let omega = Omega::draw(TestMatrix::Sign, dim, size, Key::new(3)).unwrap();
            let matrix = omega.to_matrix().unwrap();
            let y = Matrix::from_columns(dim, 5, Key::new(4).stream().normals(5 * dim)).unwrap();
            let (found, expected) = (omega.transpose_times(&y).unwrap(), matmul(matrix.t(), &y).unwrap());
            assert!(relative_error(found.as_slice(), expected.as_slice()) < 1e-12, "{dim} × {size}");
            let rows = dim / 3..dim;
            let mut tile = matrix.rows(rows.clone()).to_matrix();
            omega.add_rows(rows, -1.0, &mut tile).unwrap();
            assert!(tile.norm() < 1e-13, "{dim} × {size}");
            assert!(omega.transpose_times(&Matrix::zeros(dim + 1, 1)).is_err());
        }
    }

    #[test]
    fn a_mixing_of_another_size_is_refused() {
        let wrong = UncheckedSigns { dim: 9, drawn: vec![(Key::new(0), 2)], mixing: Matrix::identity(3) };
        assert!(Signs::try_from(wrong).is_err());
    }
}
