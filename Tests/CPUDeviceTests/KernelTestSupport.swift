import CPUKernels

/// A buffer of a kernel's element type, filled from and read as `Float`.
final class Elements {
  let dtype: sl_dtype
  let count: Int
  let pointer: UnsafeMutableRawPointer

  init(_ values: [Float], _ dtype: sl_dtype) {
    self.dtype = dtype
    count = values.count
    pointer = .allocate(byteCount: max(64, count * 4), alignment: 64)
    for (i, value) in values.enumerated() {
      if dtype == SL_F32 {
        pointer.storeBytes(of: value, toByteOffset: i * 4, as: Float.self)
      } else {
        pointer.storeBytes(of: roundedToBFloat16(value), toByteOffset: i * 2, as: UInt16.self)
      }
    }
  }

  convenience init(zeros count: Int, _ dtype: sl_dtype) { self.init([Float](repeating: 0, count: count), dtype) }

  deinit { pointer.deallocate() }

  subscript(i: Int) -> Float {
    dtype == SL_F32
      ? pointer.load(fromByteOffset: i * 4, as: Float.self)
      : Float(bitPattern: UInt32(pointer.load(fromByteOffset: i * 2, as: UInt16.self)) << 16)
  }

  /// The values as stored, after rounding.
  var floats: [Float] { (0..<count).map { self[$0] } }
  var doubles: [Double] { (0..<count).map { Double(self[$0]) } }

  /// A pointer to element `i`, as for a slice of a fused buffer.
  func at(_ i: Int) -> UnsafeMutableRawPointer { pointer + i * sl_dtype_size(dtype) }
  var float: UnsafeMutablePointer<Float> { pointer.assumingMemoryBound(to: Float.self) }
}

func roundedToBFloat16(_ value: Float) -> UInt16 {
  if value.isNaN { return 0x7fc0 }
  let bits = value.bitPattern
  return UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) >> 16)
}

/// SplitMix64: small, seeded, the same everywhere.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
  /// Uniform values in -scale...scale.
  mutating func floats(_ count: Int, scale: Float = 1) -> [Float] {
    (0..<count).map { _ in Float.random(in: -scale...scale, using: &self) }
  }
}

/// The paths that this machine can run.
var availablePaths: [Int32] {
  [0] + (sl_has_avx2() != 0 ? [1] : []) + (sl_has_avx512() != 0 ? [2] : []) + (sl_has_avx512bf16() != 0 ? [3] : [])
}

/// Runs `body` on each instruction set of this machine in turn.
func onEachPath(_ body: (Int32) throws -> Void) rethrows {
  defer { sl_force_path(-1) }
  for path in availablePaths {
    sl_force_path(path)
    try body(path)
  }
}

/// The largest difference, relative to the largest expected magnitude, or to `floor` where all are smaller.
func relativeError(_ actual: [Double], _ expected: [Double], floor: Double = 1e-30) -> Double {
  guard actual.count == expected.count else { return .infinity }
  let scale = max(expected.map(\.magnitude).max() ?? 0, floor)
  var worst = 0.0
  for (a, e) in zip(actual, expected) {
    if a.isNaN != e.isNaN { return .infinity }
    worst = max(worst, (a - e).magnitude / scale)
  }
  return worst
}

/// What rounding to the dtype may cost, relative to the largest value.
func tolerance(_ dtype: sl_dtype) -> Double { dtype == SL_F32 ? 3e-6 : 5e-3 }

let bothTypes: [sl_dtype] = [SL_F32, SL_BF16]
