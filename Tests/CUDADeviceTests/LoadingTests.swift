import CUDAEmulator
import Tensors
import TestSupport
import Testing

@testable import CUDADevice

// The emulated GPU runs one thing at a time: its suites lie in one that is serialized.
extension EmulatedDeviceTests {
  /// Frozen matrices reach the GPU alike in whatever form a checkpoint has them.
  @Suite struct LoadingTests {
    /// The elements of a matrix, as a product with the unit matrix shows them.
    private func elements(_ source: MatrixSource, on device: CUDADevice) throws -> [Float] {
      let matrix = try device.makeFrozenMatrices([source], directions: .forward)[0]
      // More rows than the kernels take that read NF4 where it lies, whose sums are not of elements rounded to bf16.
      let n = source.inputs
      let rows = max(n, 65)
      let unit = (0..<rows * n).map { UInt16($0 / n == $0 % n ? 0x3F80 : 0) }
      let x = Tensor(try device.allocate(byteCount: rows * n * 2), rows: rows, columns: n, dtype: .bfloat16)
      try unit.withUnsafeBytes { try device.upload($0, to: x) }
      let y = Tensor(
        try device.allocate(byteCount: rows * source.outputs * 4), rows: rows, columns: source.outputs, dtype: .float32)
      try device.linear(x, [Projection(matrix)], into: [y], lowRank: [nil], accumulate: false, dropout: nil)
      var transposed = [Float](repeating: .nan, count: y.count)
      try transposed.withUnsafeMutableBytes { try device.download(y, to: $0) }
      return (0..<source.outputs * n).map { transposed[$0 % n * source.outputs + $0 / n] }
    }

    private func withDevice(_ body: (CUDADevice) throws -> Void) throws {
      let folder = try TemporaryFolder()
      try body(CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: folder.path))
    }

    /// Rounded to nearest, ties to even.
    private func bfloat16(_ x: Float) -> Float {
      Float(bitPattern: (x.bitPattern &+ 0x7FFF &+ (x.bitPattern >> 16) & 1) & 0xFFFF_0000)
    }

    private func source<Number: Sendable>(
      _ values: [Number], _ rows: Int, _ columns: Int, _ dtype: DType
    ) -> MatrixSource {
      MatrixSource(
        outputs: rows, inputs: columns,
        stored: MatrixSource.Stored(dtype: dtype) { range, target in
          let part = values[range.lowerBound * columns..<range.upperBound * columns]
          part.withUnsafeBytes {
            target.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(target), byteCount: $0.count)
          }
        }
      ) { _, _ in Issue.record("rows that are stored as numbers were decoded") }
    }

    @Test(arguments: [(24, 64), (5, 33)])
    func storedNumbersKeepTheirValues(_ rows: Int, _ columns: Int) throws {
      var random = SeededRandom(seed: 11)
      let floats = (0..<rows * columns).map { _ in Float.random(in: -2...2, using: &random) }
      try withDevice { device in
        let rounded = floats.map(bfloat16)
        let floatsLoaded = try elements(source(floats, rows, columns, .float32), on: device)
        #expect(floatsLoaded == rounded)
        let bits = rounded.map { UInt16($0.bitPattern >> 16) }
        let bitsLoaded = try elements(source(bits, rows, columns, .bfloat16), on: device)
        #expect(bitsLoaded == rounded)
        #if arch(arm64) || arch(x86_64)
          // Normal and subnormal numbers, and both zeros.
          let halves = (0..<rows * columns).map { index -> UInt16 in
            [UInt16(0), 0x8000, 1, 0x83FF, 0x7BFF][safe: index] ?? UInt16.random(in: 0...0x7BFF, using: &random)
          }
          let expected = halves.map { bfloat16(halfValue($0)) }
          let halvesLoaded = try elements(source(halves, rows, columns, .float16), on: device)
          #expect(halvesLoaded == expected)
        #endif
      }
    }

    /// fp16 by its definition.
    private func halfValue(_ bits: UInt16) -> Float {
      let (exponent, mantissa) = (Int(bits >> 10 & 31), Float(bits & 1023))
      let magnitude =
        exponent == 0
        ? mantissa * 0x1p-24 : (1024 + mantissa) * 0x1p-25 * Float(sign: .plus, exponent: exponent, significand: 1)
      return bits & 0x8000 == 0 ? magnitude : -magnitude
    }

    @Test func storedNF4IsNeverQuantizedAgain() throws {
      var random = SeededRandom(seed: 5)
      let (rows, columns) = (320, 64)
      let codes = (0..<rows * columns / 2).map { _ in UInt8.random(in: 0...255, using: &random) }
      let absmaxCodes = (0..<rows).map { _ in UInt8.random(in: 0...255, using: &random) }
      let nested = [Float.random(in: 0.1...1, using: &random), .random(in: 0.1...1, using: &random)]
      let plain = (0..<rows).map { _ in Float.random(in: 0.1...1, using: &random) }
      let (offset, first) = (Float(0.37), 100)
      func expected(_ absmax: (Int) -> Float) -> [Float] {
        (0..<rows * columns).map { index in
          let byte = codes[index / 2]
          return bfloat16(NF4.values[Int(index % 2 == 0 ? byte >> 4 : byte & 15)] * absmax(index / 64))
        }
      }
      try withDevice { device in
        try codes.withUnsafeBytes { codes in
          try plain.withUnsafeBytes { values in
            let source = MatrixSource(
              outputs: rows, inputs: columns, storage: .nf4(resident: false),
              nf4: NF4Blocks(codes: codes, absmax: .plain(values))
            ) { _, _ in Issue.record("NF4 was decoded") }
            let loaded = try elements(source, on: device)
            #expect(loaded == expected { plain[$0] })
          }
          try absmaxCodes.withUnsafeBytes { absmax in
            try nested.withUnsafeBytes { values in
              for resident in [false, true] {
                let source = MatrixSource(
                  outputs: rows, inputs: columns, storage: .nf4(resident: resident),
                  nf4: NF4Blocks(
                    codes: codes,
                    absmax: .nested(codes: absmax, nested: values, map: NF4.dynamicMap, offset: offset, first: first))
                ) { _, _ in Issue.record("NF4 was decoded") }
                let right = expected {
                  NF4.dynamicMap[Int(absmaxCodes[$0])] * nested[($0 + first) / 256] + offset
                }
                let loaded = try elements(source, on: device)
                #expect(loaded == right)
              }
            }
          }
        }
      }
    }

    @Test func dynamicMapIsBitsandbytes() {
      // create_dynamic_map(signed=True) of bitsandbytes 0.50: its ends, its middle, and a sum that every value enters.
      let map = NF4.dynamicMap
      #expect(map.count == 256 && map == map.sorted())
      #expect(Array(map.suffix(3)) == [0x1.f53334p-1, 0x1.fc6666p-1, 1])
      #expect(
        Array(map[125..<131]) == [
          -3.250000190746505e-06, -5.500000384017767e-07, 0, 5.500000384017767e-07, 3.250000190746505e-06,
          7.749999895168003e-06,
        ])
      #expect(map.reduce(0.0) { $0 + Double(abs($1)) } == 75.10526317200026)
    }
  }
}

extension Array {
  fileprivate subscript(safe index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
