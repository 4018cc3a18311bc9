//! What the encoder asks of the processor beyond plain Rust, and its only unsafe code: memory that will be read soon, and
//! borders of 64 pairs of bytes at a time.
//!
//! Safety: a prefetch reads and writes nothing that a program could see, and cannot fault, whatever the address. Loads and
//! stores go through references to arrays of just their width, which may lie anywhere. A function for an instruction set
//! is called where [`Path::available`] has found that set, and nowhere else.
#![expect(unsafe_code, reason = "there are no safe names for these instructions")]

use crate::simd::Path;

/// Asks for the cache line at `place`; where there is no instruction for it, it does nothing.
///
/// A look-up in a table of megabytes waits for memory most of its time; asked for 64 look-ups ahead, the waits overlap
/// (measured: 1.4 times the speed of the memo).
#[inline]
pub(super) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above; SSE is part of x86_64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: see above; `prfm` changes neither registers nor flags.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) std::ptr::from_ref(place), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

/// Pairs of bytes looked at in one step.
pub(super) const STEP: usize = 64;

/// Pairs of ASCII characters, as bits: `[right / 8][left / 64][left % 64]` has `1 << right % 8`.
pub(super) type Pairs = [[[u8; STEP]; 2]; 16];

/// Writes the places in `text` of those pairs of neighbours that are in `pairs` or, where one of the two is not ASCII and
/// the second begins a character, for which `wide` says so. A pair's place is that of its second byte. Gives the number of
/// places; `None`, with nothing written, if there is no code for `path`.
///
/// # Panics
///
/// If `places` does not have room for as many as `text` has bytes, and [`STEP`] more.
#[inline]
pub(super) fn find(
    path: Path,
    pairs: &Pairs,
    text: &[u8],
    places: &mut [u32],
    wide: impl Fn(usize) -> bool,
) -> Option<usize> {
    match path {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Path::available` has found the instructions of this path.
        Path::Avx512Vbmi => Some(unsafe { x86::find(pairs, text, places, wide) }),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_cmpeq_epi8_mask, _mm512_cmpge_epi8_mask,
        _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_loadu_si512, _mm512_maskz_compress_epi8,
        _mm512_maskz_permutex2var_epi8, _mm512_movepi8_mask, _mm512_or_si512, _mm512_permutexvar_epi8,
        _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512,
        _mm512_test_epi8_mask,
    };

    use super::{Pairs, STEP};

    /// What stands in the lanes of a register that numbers them.
    const NUMBERS: [u8; STEP] = {
        let mut lanes = [0; STEP];
        let mut lane = 0;
        while lane < STEP {
            lanes[lane] = lane as u8;
            lane += 1;
        }
        lanes
    };

    /// The bit of [`Pairs`], by the low six bits of the second byte.
    const BITS: [u8; STEP] = {
        let mut bits = [0; STEP];
        let mut lane = 0;
        while lane < STEP {
            bits[lane] = 1 << (lane % 8);
            lane += 1;
        }
        bits
    };

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(bytes: &[u8; STEP]) -> __m512i {
        // SAFETY: 64 bytes behind a reference.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    /// Writes 16 of the places in the lanes of `found`, counted from `base`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(to: &mut [u32; 16], found: __m128i, base: usize) {
        let places = _mm512_add_epi32(_mm512_cvtepu8_epi32(found), _mm512_set1_epi32((base as u32).cast_signed()));
        // SAFETY: 64 bytes behind a reference.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), places) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
    pub(super) fn find(pairs: &Pairs, text: &[u8], places: &mut [u32], wide: impl Fn(usize) -> bool) -> usize {
        let (numbers, bits) = (load(&NUMBERS), load(&BITS));
        let (mut at, mut count) = (0, 0);
        while at + 1 < text.len() {
            let rest = &text[at..];
            let (mut last, mut behind) = ([0; STEP], [0; STEP]);
            let (left, right) = if let (Some(left), Some(right)) = (rest.first_chunk(), rest[1..].first_chunk()) {
                (left, right)
            } else {
                let (many, more) = (rest.len().min(STEP), rest.len() - 1);
                last[..many].copy_from_slice(&rest[..many]);
                behind[..more].copy_from_slice(&rest[1..]);
                (&last, &behind)
            };
            let (left, right) = (load(left), load(right));
            let group = _mm512_and_si512(_mm512_srli_epi16::<3>(right), _mm512_set1_epi8(0x1F));
            let mut held = _mm512_setzero_si512();
            for (number, [low, high]) in pairs.iter().enumerate() {
                let here = _mm512_cmpeq_epi8_mask(group, _mm512_set1_epi8(number as i8));
                held = _mm512_or_si512(held, _mm512_maskz_permutex2var_epi8(here, load(low), left, load(high)));
            }
            let beyond = _mm512_movepi8_mask(_mm512_or_si512(left, right));
            let mut found = _mm512_test_epi8_mask(held, _mm512_permutexvar_epi8(right, bits)) & !beyond;
            // As signed numbers, bytes within a character are the least of all.
            let mut ask = beyond & _mm512_cmpge_epi8_mask(right, _mm512_set1_epi8(-64));
            if rest.len() <= STEP {
                let real = (1 << (rest.len() - 1)) - 1;
                (found, ask) = (found & real, ask & real);
            }
            while ask != 0 {
                found |= u64::from(wide(at + 1 + ask.trailing_zeros() as usize)) << ask.trailing_zeros();
                ask &= ask - 1;
            }
            let lanes = _mm512_maskz_compress_epi8(found, numbers);
            let room = &mut places[count..count + STEP];
            let (four, _) = room.as_chunks_mut::<16>();
            store(&mut four[0], _mm512_extracti32x4_epi32::<0>(lanes), at + 1);
            store(&mut four[1], _mm512_extracti32x4_epi32::<1>(lanes), at + 1);
            let more = found.count_ones() as usize;
            if more > 32 {
                store(&mut four[2], _mm512_extracti32x4_epi32::<2>(lanes), at + 1);
                store(&mut four[3], _mm512_extracti32x4_epi32::<3>(lanes), at + 1);
            }
            count += more;
            at += STEP;
        }
        count
    }
}
