//! From a screen's pixels to a video's: BGRX to I420, BT.709, limited range, two rows at a time.
//!
//! The same sums twice, to the last bit: once for any processor, which the optimiser makes vectors of, and once by hand
//! for AVX2, because a debug build has no such optimiser and the tests convert as many frames as a meeting does.

/// Weights of blue, green and red in 1/32768: 219/255 of BT.709's luma, 224/255 of its differences.
const LUMA: [i16; 3] = [2_032, 20_127, 5_983];
const U: [i16; 3] = [14_392, -11_094, -3_298];
const V: [i16; 3] = [-1_320, -13_072, 14_392];
/// What black is, and a half, so that sums are rounded.
const LUMA_BASE: i32 = (16 << LUMA_SHIFT) + (1 << (LUMA_SHIFT - 1));
const CHROMA_BASE: i32 = (128 << CHROMA_SHIFT) + (1 << (CHROMA_SHIFT - 1));
const LUMA_SHIFT: i32 = 15;
/// Of the sum of four pixels.
const CHROMA_SHIFT: i32 = LUMA_SHIFT + 2;

/// Two rows of pixels and their place: `luma` as many bytes as there are pixels, which is even, and `chroma` (U and V)
/// half as many. Where a side is shorter than that, some pixels are left out.
pub struct Rows<'a> {
    pub bgrx: [&'a [u8]; 2],
    pub luma: [&'a mut [u8]; 2],
    pub chroma: [&'a mut [u8]; 2],
}

/// Converts two rows.
pub fn convert(rows: Rows) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return avx2::convert(rows);
    }
    portable(rows);
}

/// Blue and red, and green, each with room for the sum of four.
#[inline]
fn split(bgrx: &[u8]) -> [u32; 2] {
    let pixel = u32::from_le_bytes(bgrx.try_into().unwrap_or_default());
    [pixel & 0xff_00ff, pixel >> 8 & 0xff]
}

#[inline]
fn weigh([blue_red, green]: [u32; 2], weights: [i16; 3], base: i32, shift: i32) -> u8 {
    let of = |value: u32, weight: i16| (value & 0xffff).cast_signed().wrapping_mul(i32::from(weight));
    let [b, g, r] = weights;
    let sum = of(blue_red, b).wrapping_add(of(blue_red >> 16, r)).wrapping_add(of(green, g));
    (sum.wrapping_add(base) >> shift).to_le_bytes()[0]
}

fn portable(Rows { bgrx: [top, bottom], luma, chroma: [u, v] }: Rows) {
    for (row, luma) in [top, bottom].into_iter().zip(luma) {
        for (pixel, luma) in row.as_chunks::<4>().0.iter().zip(luma) {
            *luma = weigh(split(pixel), LUMA, LUMA_BASE, LUMA_SHIFT);
        }
    }
    let squares = top.as_chunks::<8>().0.iter().zip(bottom.as_chunks::<8>().0);
    for ((top, bottom), (u, v)) in squares.zip(u.iter_mut().zip(v)) {
        let four = [&top[..4], &top[4..], &bottom[..4], &bottom[4..]].map(split);
        let sums = [0, 1].map(|i| four[0][i] + four[1][i] + four[2][i] + four[3][i]);
        *u = weigh(sums, U, CHROMA_BASE, CHROMA_SHIFT);
        *v = weigh(sums, V, CHROMA_BASE, CHROMA_SHIFT);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_unpackhi_epi16, _mm_unpacklo_epi16, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
        _mm256_castps_si256, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_madd_epi16,
        _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setr_epi32,
        _mm256_shuffle_ps, _mm256_srli_epi16, _mm256_srli_epi32,
    };

    use super::{CHROMA_BASE, CHROMA_SHIFT, LUMA, LUMA_BASE, LUMA_SHIFT, Rows, U, V, portable};

    /// Pixels that are converted at once.
    const BLOCK: usize = 32;

    #[expect(unsafe_code, reason = "what the processor can do is found out while it runs")]
    pub fn convert(rows: Rows) {
        // SAFETY: the only caller has asked the processor for AVX2.
        unsafe { in_blocks(rows) }
    }

    #[target_feature(enable = "avx2")]
    fn in_blocks(rows: Rows) {
        let Rows { bgrx: [top, bottom], luma: [luma, lower], chroma: [u, v] } = rows;
        let width = luma.len();
        if width < BLOCK {
            return portable(Rows { bgrx: [top, bottom], luma: [luma, lower], chroma: [u, v] });
        }
        let mut next = 0;
        while next < width {
            // The last block ends with the row, and does some pixels again.
            let x = if next > width - BLOCK { width - BLOCK } else { next };
            let (Some(top), Some(bottom)) = (pixels(top, x), pixels(bottom, x)) else { return };
            let (Some(luma), Some(lower)) = (at(luma, x), at(lower, x)) else { return };
            let (Some(u), Some(v)) = (at(u, x / 2), at(v, x / 2)) else { return };
            block([top, bottom], [luma, lower], [u, v]);
            next += BLOCK;
        }
    }

    #[inline]
    fn pixels(row: &[u8], x: usize) -> Option<&[u8; 4 * BLOCK]> {
        row.get(4 * x..)?.first_chunk()
    }

    #[inline]
    fn at<const N: usize>(row: &mut [u8], x: usize) -> Option<&mut [u8; N]> {
        row.get_mut(x..)?.first_chunk_mut()
    }

    /// Eight pixels: blue and red, and green beside X, whose weight is nothing.
    type Eight = [__m256i; 2];

    #[target_feature(enable = "avx2")]
    #[inline]
    fn block(
        [top, bottom]: [&[u8; 4 * BLOCK]; 2],
        [luma, lower]: [&mut [u8; BLOCK]; 2],
        [u, v]: [&mut [u8; BLOCK / 2]; 2],
    ) {
        let (top, bottom) = (load(top), load(bottom));
        store(luma, lumas(top));
        store(lower, lumas(bottom));
        let low = beside(add(top[0], bottom[0]), add(top[1], bottom[1]));
        let high = beside(add(top[2], bottom[2]), add(top[3], bottom[3]));
        let both = _mm256_packus_epi16(differences(low, high, U), differences(low, high, V));
        let (left, right) = (_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
        store_half(u, _mm_unpacklo_epi16(left, right));
        store_half(v, _mm_unpackhi_epi16(left, right));
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn lumas([a, b, c, d]: [Eight; 4]) -> __m256i {
        let low = _mm256_packs_epi32(weigh::<LUMA_SHIFT>(a, LUMA, LUMA_BASE), weigh::<LUMA_SHIFT>(b, LUMA, LUMA_BASE));
        let high = _mm256_packs_epi32(weigh::<LUMA_SHIFT>(c, LUMA, LUMA_BASE), weigh::<LUMA_SHIFT>(d, LUMA, LUMA_BASE));
        // Packing goes by halves of a register; the dwords are put in order again.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(a: Eight, b: Eight) -> Eight {
        [_mm256_add_epi16(a[0], b[0]), _mm256_add_epi16(a[1], b[1])]
    }

    /// The sums of each two pixels side by side.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn beside(a: Eight, b: Eight) -> Eight {
        let sums = |a: __m256i, b: __m256i| {
            let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
            let even = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
            let odd = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
            _mm256_add_epi16(even, odd)
        };
        [sums(a[0], b[0]), sums(a[1], b[1])]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn differences(low: Eight, high: Eight, weights: [i16; 3]) -> __m256i {
        _mm256_packs_epi32(
            weigh::<CHROMA_SHIFT>(low, weights, CHROMA_BASE),
            weigh::<CHROMA_SHIFT>(high, weights, CHROMA_BASE),
        )
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn weigh<const SHIFT: i32>([blue_red, green]: Eight, [b, g, r]: [i16; 3], base: i32) -> __m256i {
        let pair = |low: i16, high: i16| _mm256_set1_epi32(i32::from(high) << 16 | i32::from(low) & 0xffff);
        let blue_red = _mm256_madd_epi16(blue_red, pair(b, r));
        let sum = _mm256_add_epi32(blue_red, _mm256_madd_epi16(green, pair(g, 0)));
        _mm256_srli_epi32::<SHIFT>(_mm256_add_epi32(sum, _mm256_set1_epi32(base)))
    }

    // The instructions that load and store take pointers, which a debug build checks at every use.

    #[expect(unsafe_code, reason = "there is no safe way between bytes and a register")]
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(from: &[u8; 4 * BLOCK]) -> [Eight; 4] {
        // SAFETY: as many bytes, and any are valid.
        let [a, b, c, d] = unsafe { std::mem::transmute::<[u8; 4 * BLOCK], [__m256i; 4]>(*from) };
        [split(a), split(b), split(c), split(d)]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn split(pixels: __m256i) -> Eight {
        [_mm256_and_si256(pixels, _mm256_set1_epi32(0xff_00ff)), _mm256_srli_epi16::<8>(pixels)]
    }

    #[expect(unsafe_code, reason = "there is no safe way between bytes and a register")]
    #[target_feature(enable = "avx2")]
    #[inline]
    fn store(to: &mut [u8; 32], value: __m256i) {
        // SAFETY: as many bytes, and any are valid.
        *to = unsafe { std::mem::transmute::<__m256i, [u8; 32]>(value) };
    }

    #[expect(unsafe_code, reason = "there is no safe way between bytes and a register")]
    #[target_feature(enable = "avx2")]
    #[inline]
    fn store_half(to: &mut [u8; 16], value: __m128i) {
        // SAFETY: as many bytes, and any are valid.
        *to = unsafe { std::mem::transmute::<__m128i, [u8; 16]>(value) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both rows' luma, U and V.
    fn converted(how: fn(Rows), bgrx: [&[u8]; 2]) -> [Vec<u8>; 4] {
        let width = bgrx[0].len() / 4;
        let [mut luma, mut lower, mut u, mut v] = [width, width, width / 2, width / 2].map(|len| vec![1; len]);
        how(Rows { bgrx, luma: [&mut luma, &mut lower], chroma: [&mut u, &mut v] });
        [luma, lower, u, v]
    }

    #[test]
    fn values_are_those_of_bt709_whichever_way() {
        for ([r, g, b], [luma, u, v]) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
            ([0, 255, 255], [188, 154, 16]),
            ([255, 0, 255], [78, 214, 230]),
            ([255, 255, 0], [219, 16, 138]),
            ([128, 128, 128], [126, 128, 128]),
        ] {
            let row = [b, g, r, 77].repeat(32);
            for how in [portable, convert] {
                let found = converted(how, [&row, &row]);
                assert_eq!(found, [vec![luma; 32], vec![luma; 32], vec![u; 16], vec![v; 16]], "{r} {g} {b}");
            }
        }
    }

    #[test]
    fn chroma_is_the_mean_of_four_pixels() {
        let row = |red: &[u8]| -> Vec<u8> { red.iter().flat_map(|red| [0, 0, *red, 255]).collect() };
        let of = |top: &[u8], bottom: &[u8]| converted(convert, [&row(top), &row(bottom)])[3].clone();
        assert_eq!(of(&[255, 0, 0, 0], &[0, 0, 0, 0]), [156, 128]);
        assert_eq!(of(&[0, 255, 0, 0], &[0, 0, 255, 0]), [156, 156]);
        assert_eq!(of(&[255, 255, 0, 0], &[255, 255, 9, 9]), [240, 130]);
    }

    proptest! {
        #[test]
        fn both_ways_come_to_the_same(
            rows in (1..80usize).prop_flat_map(|half| [(); 2].map(|()| proptest::collection::vec(any::<u8>(), 8 * half))),
        ) {
            let rows = [&rows[0][..], &rows[1][..]];
            prop_assert_eq!(converted(convert, rows), converted(portable, rows));
        }
    }
}
