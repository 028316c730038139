// Package quant turns vectors into codes of 2, 4 or 8 bits a number, from
// which distances to a query are estimated without bias and without a look at
// the vectors.
//
// A Codec is trained on a sample of the rows that it will encode. It brings
// every metric into one form, code space: rows are scaled (to length 1 for
// cosine, by a power of two otherwise), turned by a random orthonormal
// matrix, after which the numbers of any row look normally distributed, and
// moved by the mean of the rows. What remains of a row is y.
//
// The code of y is a level for each number on a grid whose step is chosen for
// the row, and two numbers: the row's own part of the distance, A, and the
// length of a step, B. With v the odd whole numbers that levels stand for,
// B is such that <B*v, y> = <y, y>: then <q, B*v> is an estimate of <q, y>
// whose error has a mean of zero over all rotations (Gao et al., "Practical
// and Asymptotically Optimal Quantization of High-Dimensional Vectors",
// arXiv 2409.09913, section 3, with uniform grids).
//
// A query is rotated too and rounded to signed bytes, so that an estimate is
// one sum of products of small whole numbers:
//
//	key      = A + B*(Mul*sum + Sub)
//	distance = Offset + Factor*key
//
// Keys order the rows of one codec; distances can be compared with those of
// other codecs and with exact ones. Vectors of extreme length are pulled in
// so far that all of this stays finite; they remain farther away than
// everything else.
package quant
