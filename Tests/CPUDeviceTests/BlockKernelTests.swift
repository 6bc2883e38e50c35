import CPUKernels
import Testing

/// Products with matrices that stay in blocks: one row against float64, several rows against the dequantized matrix.
@Suite struct BlockKernelTests {
  static let shapes = [(1, 1), (16, 2), (50, 3), (96, 1), (131, 2)]

  @Test(arguments: BlockMatrix.formats, bothTypes)
  func oneRowIsTheSumOfUnroundedWeights(_ format: sl_block_format, _ dtype: sl_dtype) throws {
    var random = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    for (outputs, blocks) in Self.shapes {
      for rank in [0, 3, 16] {
        let matrix = BlockMatrix(format, outputs: outputs, blocks: blocks, &random)
        let x = Elements(random.floats(matrix.inputs), dtype)
        let a = Elements(random.floats(rank * matrix.inputs), dtype)
        let b = Elements(random.floats(outputs * rank), dtype)
        let before = Elements(random.floats(outputs), SL_F32)
        try onEachPath { path in
          let (status, packed) = matrix.packed(dtype)
          defer { sl_packed_matrix_destroy(packed) }
          try #require(status == 0)
          #expect(sl_is_in_blocks(packed) != 0)
          for accumulate in [false, true] {
            let (s, y) = (Elements(zeros: rank, dtype), Elements(before.floats, SL_F32))
            var part = sl_linear_part()
            (part.w, part.rank, part.a, part.b) = (packed, Int64(rank), .init(a.pointer), .init(b.pointer))
            (part.s, part.y, part.y_type) = (s.pointer, y.pointer, SL_F32)
            #expect(sl_blocks_linear(dtype, 1, x.pointer, 0, Int64(matrix.inputs), 1, &part, accumulate ? 1 : 0) == 0)
            // The same sums, rounded.
            let short = Elements(before.floats, SL_BF16)
            (part.y, part.y_type) = (short.pointer, SL_BF16)
            #expect(sl_blocks_linear(dtype, 1, x.pointer, 0, Int64(matrix.inputs), 1, &part, accumulate ? 1 : 0) == 0)
            if !accumulate { #expect(short.floats == Elements(y.floats, SL_BF16).floats, "path \(path)") }
            let sizes = y.doubles.map(\.magnitude).max() ?? 0
            #expect(zip(short.doubles, y.doubles).allSatisfy { ($0 - $1).magnitude <= 0.02 * (sizes + 1) })
            // s is rounded to its type, and goes on as such.
            let low = (0..<rank).map { r in
              (0..<matrix.inputs).reduce(0.0) { $0 + a.doubles[r * matrix.inputs + $1] * x.doubles[$1] }
            }
            #expect(relativeError(s.doubles, low) < tolerance(dtype), "s, path \(path)")
            var (expected, scale) = ([Double](), 0.0)
            for row in 0..<outputs {
              var (sum, size) = (accumulate ? before.doubles[row] : 0, 0.0)
              for i in 0..<matrix.inputs {
                let term = Double(matrix.decoded[row * matrix.inputs + i]) * x.doubles[i]
                (sum, size) = (sum + term, size + term.magnitude)
              }
              for r in 0..<rank { sum += b.doubles[row * rank + r] * s.doubles[r] }
              expected.append(sum)
              scale = max(scale, size)
            }
            let worst = zip(y.doubles, expected).map { ($0 - $1).magnitude }.max() ?? 0
            #expect(worst < 1e-6 * scale, "\(format) \(outputs) × \(matrix.inputs), rank \(rank), path \(path)")
          }
        }
      }
    }
  }

  /// What a row gives does not depend on the rows beside it.
  @Test(arguments: BlockMatrix.formats, bothTypes)
  func fewRowsAreWhatEachIsAlone(_ format: sl_block_format, _ dtype: sl_dtype) throws {
    var random = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    for (outputs, blocks) in Self.shapes {
      let matrix = BlockMatrix(format, outputs: outputs, blocks: blocks, &random)
      let (k, most) = (Int64(matrix.inputs), 11)
      // Rows lie apart from one another.
      let (ldx, ldy) = (matrix.inputs + 6, outputs + 5)
      let x = Elements(random.floats(most * ldx), dtype)
      for (rank, yType) in [(0, SL_F32), (0, SL_BF16), (5, SL_F32), (16, SL_BF16)] {
        let a = Elements(random.floats(rank * matrix.inputs), dtype)
        let b = Elements(random.floats(outputs * rank), dtype)
        let before = random.floats(most * ldy)
        try onEachPath { path in
          let (status, packed) = matrix.packed(dtype)
          defer { sl_packed_matrix_destroy(packed) }
          try #require(status == 0)
          func run(_ rows: Range<Int>, _ y: Elements, _ s: Elements) {
            var part = sl_linear_part()
            (part.w, part.rank, part.a, part.b) = (packed, Int64(rank), .init(a.pointer), .init(b.pointer))
            (part.s, part.lds) = (s.pointer + rows.lowerBound * rank * sl_dtype_size(dtype), Int64(rank))
            (part.y, part.ldy) = (y.pointer + rows.lowerBound * ldy * sl_dtype_size(yType), Int64(ldy))
            part.y_type = yType
            let first = x.pointer + rows.lowerBound * ldx * sl_dtype_size(dtype)
            #expect(sl_blocks_linear(dtype, Int64(rows.count), first, Int64(ldx), k, 1, &part, 1) == 0)
          }
          let (alone, lowAlone) = (Elements(before, yType), Elements(zeros: most * rank, dtype))
          for row in 0..<most { run(row..<row + 1, alone, lowAlone) }
          for count in [2, 3, 4, 7, most] {
            let (y, s) = (Elements(before, yType), Elements(zeros: most * rank, dtype))
            for start in stride(from: 0, to: most, by: count) { run(start..<min(start + count, most), y, s) }
            #expect(y.floats == alone.floats && s.floats == lowAlone.floats, "\(count) rows, path \(path)")
          }
        }
      }
    }
  }

  /// Gate, up and others of one input in one call, each in a format of its own, written in bf16.
  @Test func groupsOfFormatsAreReadInOneGo() {
    var random = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    let matrices = [(SL_BLOCKS_Q4_0, 70, 8), (SL_BLOCKS_Q6_K, 16, 1), (SL_BLOCKS_Q8_0, 33, 8), (SL_BLOCKS_Q5_K, 48, 1)]
      .map { BlockMatrix($0.0, outputs: $0.1, blocks: $0.2, &random) }
    let x = Elements(random.floats(256), SL_BF16)
    onEachPath { path in
      let packed = matrices.map { $0.packed(SL_BF16).matrix }
      defer { packed.forEach(sl_packed_matrix_destroy) }
      func run(_ indices: [Int]) -> [[Float]] {
        let outputs = indices.map { Elements(zeros: matrices[$0].outputs, SL_BF16) }
        let parts = zip(indices, outputs).map { index, y in
          var part = sl_linear_part()
          (part.w, part.y, part.y_type) = (packed[index], y.pointer, SL_BF16)
          return part
        }
        #expect(sl_blocks_linear(SL_BF16, 1, x.pointer, 0, 256, Int32(parts.count), parts, 0) == 0)
        return outputs.map(\.floats)
      }
      #expect(run([0, 1, 2, 3]) == (0..<4).flatMap { run([$0]) }, "path \(path)")
    }
  }

  @Test(arguments: BlockMatrix.formats, bothTypes)
  func unpacksToTheDecodersBits(_ format: sl_block_format, _ dtype: sl_dtype) throws {
    var random = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    for (outputs, blocks) in Self.shapes {
      let matrix = BlockMatrix(format, outputs: outputs, blocks: blocks, &random)
      let expected = matrix.operands(dtype).floats
      try onEachPath { path in
        let (status, packed) = matrix.packed(dtype)
        defer { sl_packed_matrix_destroy(packed) }
        try #require(status == 0)
        for range in [0..<outputs, outputs / 3..<outputs - outputs / 4] {
          let rows = Elements(zeros: range.count * matrix.inputs, dtype)
          sl_blocks_unpack(packed, Int64(range.lowerBound), Int64(range.upperBound), dtype, rows.pointer)
          let wanted = expected[range.lowerBound * matrix.inputs..<range.upperBound * matrix.inputs]
          #expect(rows.floats == Array(wanted), "\(format), path \(path)")
        }
      }
    }
  }

  /// Several rows multiply with what today's packing of the dequantized matrix holds, bit for bit where panels are used.
  @Test(arguments: BlockMatrix.formats, bothTypes)
  func rowsMeetTheDequantizedMatrix(_ format: sl_block_format, _ dtype: sl_dtype) throws {
    var random = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    for (outputs, blocks) in Self.shapes {
      let matrix = BlockMatrix(format, outputs: outputs, blocks: blocks, &random)
      let (k, n) = (Int64(matrix.inputs), Int64(outputs))
      let dense = matrix.operands(dtype)
      for rows in [2, 37, 300] {
        let x = Elements(random.floats(rows * matrix.inputs), dtype)
        try onEachPath { path in
          let (status, packed) = matrix.packed(dtype)
          var plain: OpaquePointer?
          try #require(status == 0 && sl_pack_matrix(dtype, k, n, dense.pointer, k, 1, &plain) == 0)
          defer {
            sl_packed_matrix_destroy(packed)
            sl_packed_matrix_destroy(plain)
          }
          let (y, expected) = (Elements(zeros: rows * outputs, SL_F32), Elements(zeros: rows * outputs, SL_F32))
          #expect(sl_matmul_packed(Int64(rows), x.pointer, k, packed, y.pointer, SL_F32, n, 0) == 0)
          #expect(sl_matmul_packed(Int64(rows), x.pointer, k, plain, expected.pointer, SL_F32, n, 0) == 0)
          if sl_linear_is_fused(packed) != 0, sl_linear_is_fused(plain) != 0 {
            #expect(y.floats == expected.floats, "\(format) \(rows) rows, path \(path)")
          } else {
            #expect(relativeError(y.doubles, expected.doubles) < 1e-5, "\(format) \(rows) rows, path \(path)")
          }
        }
      }
    }
  }

  /// A group with pairs and the activation, of which one matrix is in blocks and one is not.
  @Test(
    .enabled(if: sl_has_avx512bf16() != 0, "this processor multiplies no panels"),
    arguments: [1, 2, 64, 200])
  func fusedGroupsMeetTheDequantizedMatrices(_ rows: Int) throws {
    var random = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    let (outputs, rank) = (130, 16)
    let matrices = [SL_BLOCKS_Q4_1, SL_BLOCKS_Q5_0].map { BlockMatrix($0, outputs: outputs, blocks: 6, &random) }
    let k = matrices[0].inputs
    let x = Elements(random.floats(rows * k), SL_BF16)
    let (a, b) = (
      Elements(random.floats(rank * k), SL_BF16), Elements(random.floats(outputs * rank, scale: 0.1), SL_BF16)
    )
    func run(inBlocks: [Bool]) throws -> [[Float]] {
      var packed: [OpaquePointer?] = []
      defer { packed.forEach(sl_packed_matrix_destroy) }
      for (matrix, isInBlocks) in zip(matrices, inBlocks) {
        if isInBlocks {
          packed.append(matrix.packed(SL_BF16).matrix)
        } else {
          var plain: OpaquePointer?
          let dense = matrix.operands(SL_BF16)
          try #require(sl_pack_matrix(SL_BF16, Int64(k), Int64(outputs), dense.pointer, Int64(k), 1, &plain) == 0)
          packed.append(plain)
        }
      }
      let results = (0..<5).map { Elements(zeros: rows * ($0 < 3 ? outputs : rank), SL_BF16) }
      let parts = (0..<2).map { index in
        var part = sl_linear_part()
        (part.w, part.rank, part.a, part.b) = (packed[index], Int64(rank), .init(a.pointer), .init(b.pointer))
        (part.s, part.lds, part.y, part.ldy) = (
          results[3 + index].pointer, Int64(rank), results[index].pointer, Int64(outputs)
        )
        part.y_type = SL_BF16
        return part
      }
      #expect(
        sl_linear_forward(
          Int64(rows), x.pointer, Int64(k), Int64(k), 2, parts, 0, results[2].pointer, Int64(outputs)) == 0)
      return results.map(\.floats)
    }
    let expected = try run(inBlocks: [false, false])
    #expect(expected[2].contains { $0 != 0 })
    #expect(try run(inBlocks: [true, true]) == expected)
    #expect(try run(inBlocks: [true, false]) == expected)
    #expect(try run(inBlocks: [false, true]) == expected)
  }

  @Test(arguments: BlockMatrix.formats) func damagedScalesAreRefused(_ format: sl_block_format) {
    var random = SeededGenerator(7)
    let matrix = BlockMatrix(format, outputs: 20, blocks: 2, &random)
    let offset = format == SL_BLOCKS_Q6_K ? 208 : 0
    // Infinity in f16, in the last row's last block.
    let at = 1 + 19 * matrix.rowByteCount + BlockMatrix.block(format).byteCount + offset
    matrix.bytes.storeBytes(of: 0x00, toByteOffset: at, as: UInt8.self)
    matrix.bytes.storeBytes(of: 0xFC, toByteOffset: at + 1, as: UInt8.self)
    let (status, packed) = matrix.packed(SL_BF16)
    #expect(status == Int32(sl_blocks_not_finite) && packed == nil)
  }

  @Test func rowsThatAreNoWholeBlocksAreRefused() {
    var packed: OpaquePointer?
    #expect(sl_pack_blocks(SL_F32, SL_BLOCKS_Q4_K, 128, 1, [nil], &packed) != 0)
    #expect(sl_pack_blocks(SL_F32, SL_BLOCKS_Q4_0, 0, 1, [nil], &packed) != 0)
    #expect(packed == nil)
  }
}
