import CPUKernels
import Testing

/// Matrix products against float64, in every form that the device asks for.
@Suite struct MatrixProductTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    var m, n, k: Int
    var testDescription: String { "\(m) × \(k) × \(n)" }
  }

  // One row is decoding's path; 600 and 1100 are cut into several tiles with a rest; widths beside multiples of 16.
  static let shapes = [
    Shape(m: 1, n: 192, k: 576), Shape(m: 1, n: 50, k: 33), Shape(m: 7, n: 16, k: 40), Shape(m: 64, n: 96, k: 48),
    Shape(m: 600, n: 33, k: 50), Shape(m: 1100, n: 64, k: 130),
  ]

  private func tolerance(_ dtype: sl_dtype, output: sl_dtype) -> Double {
    output == SL_BF16 ? 5e-3 : dtype == SL_BF16 ? 1e-5 : 2e-6
  }

  @Test(arguments: shapes) func packedProductsBothWays(_ shape: Shape) throws {
    var random = SeededGenerator(UInt64(shape.m * 31 + shape.n))
    for dtype in [SL_F32, SL_BF16] {
      for output in [SL_F32, dtype] {
        for transposed in [false, true] {
          for accumulate in [false, true] {
            let a = Elements(random.floats(shape.m * shape.k), dtype)
            let b = Elements(random.floats(shape.k * shape.n), dtype)
            let before = random.floats(shape.m * shape.n)
            let c = Elements(before, output)
            let start = c.doubles
            var packed: OpaquePointer?
            let status = sl_pack_matrix(
              dtype, Int64(shape.k), Int64(shape.n), b.pointer, Int64(transposed ? shape.k : shape.n),
              transposed ? 1 : 0, &packed)
            #expect(status == 0, "\(String(cString: sl_matmul_error(status)))")
            let matrix = try #require(packed)
            defer { sl_packed_matrix_destroy(matrix) }
            #expect(sl_packed_matrix_size(matrix) >= shape.k * shape.n * sl_dtype_size(dtype))
            #expect(
              sl_matmul_packed(
                Int64(shape.m), a.pointer, Int64(shape.k), matrix, c.pointer, output, Int64(shape.n),
                accumulate ? 1 : 0) == 0)
            let expected = reference(shape, a, b, transposeB: transposed, adding: accumulate ? start : nil)
            #expect(
              relativeError(c.doubles, expected) < tolerance(dtype, output: output),
              "dtype \(dtype) output \(output) transposed \(transposed) accumulate \(accumulate)")
          }
        }
      }
    }
  }

  @Test(arguments: shapes) func plainProductsInEveryOrientation(_ shape: Shape) {
    var random = SeededGenerator(UInt64(shape.m * 17 + shape.k))
    for dtype in [SL_F32, SL_BF16] {
      for (transposeA, transposeB) in [(false, false), (false, true), (true, false)] {
        let a = Elements(random.floats(shape.m * shape.k), dtype)
        let b = Elements(random.floats(shape.k * shape.n), dtype)
        let c = Elements(random.floats(shape.m * shape.n), SL_F32)
        let start = c.doubles
        #expect(
          sl_matmul(
            Int64(shape.m), Int64(shape.n), Int64(shape.k), a.pointer, Int64(transposeA ? shape.m : shape.k),
            transposeA ? 1 : 0, b.pointer, Int64(transposeB ? shape.k : shape.n), transposeB ? 1 : 0, dtype, c.pointer,
            SL_F32, Int64(shape.n), 1) == 0)
        let expected = reference(shape, a, b, transposeA: transposeA, transposeB: transposeB, adding: start)
        #expect(
          relativeError(c.doubles, expected) < tolerance(dtype, output: SL_F32),
          "dtype \(dtype) A transposed \(transposeA), B transposed \(transposeB)")
      }
    }
  }

  /// An adapter's gradient: a long sum, cut along it.
  @Test func longSumsDoNotDependOnTheThreads() {
    let (m, n, k) = (16, 40, 2000)
    var random = SeededGenerator(5)
    let a = Elements(random.floats(k * m), SL_BF16)
    let b = Elements(random.floats(k * n), SL_BF16)
    let expected = reference(Shape(m: m, n: n, k: k), a, b, transposeA: true)
    var results: [[Float]] = []
    defer { sl_set_thread_count(0) }
    for threads in [1, 2, 5] {
      sl_set_thread_count(Int32(threads))
      let c = Elements(zeros: m * n, SL_F32)
      let status = sl_matmul(
        Int64(m), Int64(n), Int64(k), a.pointer, Int64(m), 1, b.pointer, Int64(n), 0, SL_BF16, c.pointer, SL_F32,
        Int64(n), 0)
      #expect(status == 0)
      #expect(relativeError(c.doubles, expected) < 1e-5)
      results.append(c.floats)
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  private func reference(
    _ shape: Shape, _ a: Elements, _ b: Elements, transposeA: Bool = false, transposeB: Bool = false,
    adding start: [Double]? = nil
  ) -> [Double] {
    let (av, bv) = (a.doubles, b.doubles)
    var c = start ?? [Double](repeating: 0, count: shape.m * shape.n)
    for i in 0..<shape.m {
      for l in 0..<shape.k {
        let x = transposeA ? av[l * shape.m + i] : av[i * shape.k + l]
        for j in 0..<shape.n {
          c[i * shape.n + j] += x * (transposeB ? bv[j * shape.k + l] : bv[l * shape.n + j])
        }
      }
    }
    return c
  }
}
