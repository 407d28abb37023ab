/* What the instruction sets whose products are of floats have in common: a unit is a float, and so is an element, which
 * `round_to_elem` rounds. */

INLINE vec load_elems(const elem *from) { return load(from); }
INLINE void store_elems(elem *to, vec values) { store(to, round_to_elem(values)); }
INLINE float elem_to_float(elem value) { return value; }
INLINE elem float_to_elem(float value) { return first_of(round_to_elem(broadcast(value))); }
INLINE units load_units(const unit *from) { return load(from); }
INLINE void store_units(unit *to, units values) { store(to, values); }
/* Units of neighbours along a column; there is one row in a unit */
INLINE units units_of_elem_rows(const elem *upper, const elem *lower) { return (void)lower, load(upper); }
INLINE units units_of_float_rows(const float *upper, const float *lower) { return (void)lower, round_to_elem(load(upper)); }
/* Units of neighbours along a row */
INLINE units units_of_elem_row(const elem *from) { return load(from); }
INLINE units units_of_float_row(const float *from) { return round_to_elem(load(from)); }
/* The sum of a unit's elements, for each lane */
INLINE vec sum_within_units(units x) { return x; }
