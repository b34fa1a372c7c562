//! A set of kernels as a table of plain functions: what each processor's module writes in the same way.
//!
//! Why a macro: functions of equal names that need different features of the processor have no type in common.
//! Not here: the functions.

/// A function that needs features of the processor, as a plain one.
macro_rules! offered {
    ($kernel:ident($($argument:ident),*)) => {
        |$($argument),*| {
            // SAFETY: `available` offers this set only where `supported` has found the features.
            unsafe { $kernel($($argument),*) }
        }
    };
}

/// The functions of these names where it stands, under `name`.
macro_rules! table {
    ($name:literal) => {
        Kernels {
            name: $name,
            dot: offered!(dot(a, b)),
            dot_ahead: offered!(dot_ahead(a, b, next)),
            squared: offered!(squared(a, b)),
            dot_many: offered!(dot_many(q, rows, slots, affine, out)),
            squared_many: offered!(squared_many(q, rows, slots, affine, out)),
            int8_many: offered!(int8_many(q, rows, slots, affine, out)),
            int4_many: offered!(int4_many(q, rows, slots, affine, out)),
            bits_many: offered!(bits_many(q, rows, slots, affine, out)),
            int8_pair: offered!(int8_pair(a, b)),
            int4_pair: offered!(int4_pair(a, b)),
            hadamard: offered!(hadamard(values, factors)),
            int4_fit: offered!(int4_fit(values, inverse)),
            energy: offered!(energy(values)),
            bytes: offered!(bytes(values, out)),
            planes: offered!(planes(values, inverse, out)),
        }
    };
}

/// Those of a set that are plain loops, compiled for wider registers: `features`.
macro_rules! widened {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        fn int4_fit(values: &[f32], inverse: f32) -> (f32, f32) {
            portable::int4_fit_body(values, inverse)
        }

        #[target_feature(enable = $features)]
        fn energy(values: &[f32]) -> f32 {
            portable::energy_body(values)
        }

        #[target_feature(enable = $features)]
        fn dot_many(query: &[f32], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
            each_vector(rows, slots, out, |row| affine.c0 + affine.w1 * dot(query, row));
        }

        #[target_feature(enable = $features)]
        fn squared_many(query: &[f32], rows: &View<'_>, slots: &[u32], _: &Affine, out: &mut Vec<f32>) {
            each_vector(rows, slots, out, |row| squared(query, row));
        }
    };
}
