import CBlockFormats
import CPUKernels
import Testing

/// Products from four bits against the format's own decoding.
@Suite struct NF4KernelTests {
  struct Matrix {
    let outputs, inputs: Int
    var codes: [UInt8]
    var absmax: [Float]

    init(_ outputs: Int, _ inputs: Int) {
      (self.outputs, self.inputs) = (outputs, inputs)
      let values = (0..<outputs * inputs).map { _ in Float.random(in: -1...1) }
      codes = [UInt8](repeating: 0, count: values.count / 2)
      absmax = [Float](repeating: 0, count: values.count / 64)
      sl_quantize_nf4(values, Int64(values.count), &codes, &absmax)
    }

    func decoded(_ rounding: sl_rounding) -> [Float] {
      var values = [Float](repeating: 0, count: outputs * inputs)
      sl_decode_nf4(codes, absmax, 64, 0, Int64(values.count), rounding, &values)
      return values
    }

    func with<Result>(_ body: (UnsafePointer<sl_nf4_matrix>) -> Result) -> Result {
      codes.withUnsafeBufferPointer { codes in
        absmax.withUnsafeBufferPointer { absmax in
          var matrix = sl_nf4_matrix(
            outputs: Int64(outputs), inputs: Int64(inputs), codes: codes.baseAddress, absmax: absmax.baseAddress)
          return body(&matrix)
        }
      }
    }
  }

  static let shapes = [(1, 64), (48, 64), (100, 192), (50, 320), (96, 576)]

  @Test(arguments: shapes) func unpacksToTheSameBits(_ outputs: Int, _ inputs: Int) {
    let matrix = Matrix(outputs, inputs)
    var floats = [Float](repeating: 0, count: outputs * inputs)
    matrix.with { sl_nf4_unpack($0, SL_F32, &floats) }
    #expect(floats == matrix.decoded(SL_ROUND_NOT))
    var halves = [UInt16](repeating: 0, count: outputs * inputs)
    matrix.with { sl_nf4_unpack($0, SL_BF16, &halves) }
    #expect(halves.map { Float(bitPattern: UInt32($0) << 16) } == matrix.decoded(SL_ROUND_BF16))
  }

  @Test(.enabled(if: sl_nf4_is_fused(SL_BF16) != 0, "this processor multiplies no panels"), arguments: shapes)
  func packsAsPlainMatricesAre(_ outputs: Int, _ inputs: Int) throws {
    let matrix = Matrix(outputs, inputs)
    var halves = [UInt16](repeating: 0, count: outputs * inputs)
    matrix.with { sl_nf4_unpack($0, SL_BF16, &halves) }
    for backward in [false, true] where !backward || outputs % 2 == 0 {
      let (k, n) = backward ? (outputs, inputs) : (inputs, outputs)
      let size = sl_nf4_packed_size(Int64(k), Int64(n))
      let room = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
      defer { room.deallocate() }
      room.initializeMemory(as: UInt8.self, repeating: 0xFF)
      let packed = try #require(sl_nf4_packed(Int64(k), Int64(n), room.baseAddress))
      defer { sl_packed_matrix_destroy(packed) }
      matrix.with { sl_nf4_pack($0, backward ? 1 : 0, packed) }
      var plain: OpaquePointer?
      #expect(
        sl_pack_matrix(SL_BF16, Int64(k), Int64(n), halves, Int64(inputs), backward ? 0 : 1, &plain) == 0)
      defer { sl_packed_matrix_destroy(plain) }
      // The same panels give the same products, bit for bit.
      let rows = 5
      let x = (0..<rows * k).map { _ in UInt16(Float.random(in: -1...1).bitPattern >> 16) }
      var (found, expected) = ([Float](repeating: 0, count: rows * n), [Float](repeating: 1, count: rows * n))
      #expect(sl_matmul_packed(Int64(rows), x, Int64(k), packed, &found, SL_F32, Int64(n), 0) == 0)
      #expect(sl_matmul_packed(Int64(rows), x, Int64(k), plain, &expected, SL_F32, Int64(n), 0) == 0)
      #expect(found == expected)
    }
  }

  @Test(.enabled(if: sl_nf4_is_fused(SL_BF16) != 0, "this processor multiplies no panels"), arguments: shapes)
  func fewRowsAreMultipliedFromTheCodes(_ outputs: Int, _ inputs: Int) {
    let matrix = Matrix(outputs, inputs)
    let weights = matrix.decoded(SL_ROUND_BF16)
    let (most, ldx, ldy) = (7, inputs + 6, outputs + 3)
    let x = (0..<most * ldx).map { _ in UInt16(Float.random(in: -1...1).bitPattern >> 16) }
    let before = (0..<most * ldy).map { _ in Float.random(in: -1...1) }
    func run(_ rows: Range<Int>, _ y: inout [Float]) {
      x.withUnsafeBufferPointer { x in
        y.withUnsafeMutableBufferPointer { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return }
          let status = matrix.with {
            sl_nf4_rows(
              $0, Int64(rows.count), x + rows.lowerBound * ldx, Int64(ldx), y + rows.lowerBound * ldy, SL_F32,
              Int64(ldy), 1)
          }
          #expect(status == 0)
        }
      }
    }
    var alone = before
    for row in 0..<most { run(row..<row + 1, &alone) }
    for row in 0..<most {
      for output in 0..<outputs {
        let expected = (0..<inputs).reduce(Double(before[row * ldy + output])) {
          $0 + Double(weights[output * inputs + $1])
            * Double(Float(bitPattern: UInt32(x[row * ldx + $1]) << 16))
        }
        #expect(abs(Double(alone[row * ldy + output]) - expected) < 1e-4)
      }
    }
    // What a row gives does not depend on the rows beside it.
    for count in [2, 3, 4, most] {
      var y = before
      for start in stride(from: 0, to: most, by: count) { run(start..<min(start + count, most), &y) }
      #expect(y == alone, "\(count) rows")
    }
  }
}
