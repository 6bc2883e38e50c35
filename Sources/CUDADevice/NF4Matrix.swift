import Tensors

/// A matrix in NF4 on the GPU; see ``NF4Blocks``.
struct NF4Matrix {
  var rows: Int
  var columns: Int
  /// Two elements in each byte: `[1, rows · columns / 2]`.
  var codes: Tensor
  var absmax: Absmax

  /// What codes of a block of 64 are multiplied by.
  enum Absmax {
    /// fp32 `[1, blocks]`.
    case plain(Tensor)
    /// Codes `[1, blocks]` into `map` (fp32 `[1, 256]`), `nested` fp32 `[1, blocks / 256]`, `offset` fp32 `[1, 1]`.
    case nested(codes: Tensor, nested: Tensor, map: Tensor, offset: Tensor, first: Int)
  }

  /// Bytes of codes and absmax.
  var byteCount: Int {
    let rest =
      switch absmax {
      case .plain(let values): values.byteCount
      case .nested(let codes, let nested, _, let offset, _): codes.byteCount + nested.byteCount + offset.byteCount
      }
    return codes.byteCount + rest
  }

  /// Some of the rows, whose elements are whole blocks but for the last.
  func rows(_ range: Range<Int>) -> NF4Matrix {
    let elements = range.lowerBound * columns..<range.upperBound * columns
    let blocks = elements.lowerBound / NF4Blocks.blockLength..<Self.blockCount(elements.upperBound)
    var part = self
    part.rows = range.count
    part.codes = codes.columns(elements.lowerBound / 2..<elements.upperBound / 2)
    switch absmax {
    case .plain(let values): part.absmax = .plain(values.columns(blocks))
    case .nested(let codes, let nested, let map, let offset, let first):
      part.absmax = .nested(
        codes: codes.columns(blocks), nested: nested, map: map, offset: offset, first: first + blocks.lowerBound)
    }
    return part
  }

  static func blockCount(_ elements: Int) -> Int { (elements + NF4Blocks.blockLength - 1) / NF4Blocks.blockLength }
  static func nestedCount(_ blocks: Int) -> Int {
    (blocks + NF4Blocks.nestedBlockLength - 1) / NF4Blocks.nestedBlockLength
  }
}

/// Device memory for many tensors that live as long as the model: blocks of 32 MiB, cut from the front.
///
/// The driver gives whole pages of 2 MiB; a model in NF4 has hundreds of tensors smaller than that.
final class FrozenMemory {
  private static let blockBytes = 32 << 20

  /// What tensors of given sizes would take.
  struct Forecast {
    private(set) var byteCount = 0
    private var used = FrozenMemory.blockBytes

    /// The next tensor, in the order in which they are made.
    mutating func add(_ count: Int) {
      let bytes = (count + 255) / 256 * 256
      if bytes >= FrozenMemory.blockBytes {
        byteCount += bytes
        return
      }
      if used + bytes > FrozenMemory.blockBytes {
        byteCount += FrozenMemory.blockBytes
        used = 0
      }
      used += bytes
    }
  }

  private var block: DeviceBuffer?
  private var used = 0
  /// Whether there is one block, given, and no other.
  private let isFixed: Bool

  init() { isFixed = false }

  /// Memory of one block.
  init(in block: DeviceBuffer) {
    self.block = block
    isFixed = true
  }

  /// A dense tensor of undefined content.
  func tensor(rows: Int = 1, columns: Int, _ dtype: DType, on device: CUDADevice) throws -> Tensor {
    let bytes = (rows * columns * dtype.byteCount + 255) / 256 * 256
    if isFixed {
      guard let block, used + bytes <= block.byteCount else {
        throw DeviceError("a segment of matrices is larger than was said before it was made")
      }
    } else if bytes >= Self.blockBytes {
      return Tensor(try device.allocate(byteCount: bytes), rows: rows, columns: columns, dtype: dtype)
    } else if block == nil || used + bytes > Self.blockBytes {
      block = try device.allocate(byteCount: Self.blockBytes)
      used = 0
    }
    guard let block else { throw DeviceError("no memory was given") }
    defer { used += bytes }
    return Tensor(block, byteOffset: used, rows: rows, columns: columns, dtype: dtype)
  }
}

extension CUDADevice {
  /// Room for a matrix that is about to be quantized, in memory of the model's or where `room` gives it: so many elements of a
  /// type.
  func makeNF4(
    rows: Int, columns: Int, in room: ((Int, DType) throws -> Tensor)? = nil
  ) throws -> NF4Matrix {
    guard columns % 8 == 0 else {
      throw DeviceError("NF4 on a GPU wants rows of a multiple of 8 elements, \(columns) were given")
    }
    let blocks = NF4Matrix.blockCount(rows * columns)
    let room = room ?? { try self.frozenMemory.tensor(columns: $0, $1, on: self) }
    return NF4Matrix(
      rows: rows, columns: columns, codes: try room(rows * columns / 2, .uint8),
      absmax: .nested(
        codes: try room(blocks, .uint8), nested: try room(NF4Matrix.nestedCount(blocks), .float32),
        map: try dynamicMap(),
        offset: try room(1, .float32), first: 0))
  }

  /// Quantizes `count` elements at `address` to the codes from element `first` on, a multiple of 64; absmax values go to
  /// `absmax` (fp32), to be quantized when all are there.
  func quantize(
    _ address: UInt64, _ dtype: DType, count: Int, to matrix: NF4Matrix, from first: Int, absmax: Tensor
  ) throws {
    let threads = (NF4Matrix.blockCount(count) * 8 + 31) / 32 * 32
    try launch(
      "nf4_quantize_\(quantizedName(dtype))",
      Grid(x: min((threads + 255) / 256, context.multiprocessors * 16), threadsX: 256),
      [
        count.word, address, UInt64(matrix.codes.address) + UInt64(first / 2),
        UInt64(absmax.address) + UInt64(first / NF4Blocks.blockLength * 4), (address % 16 == 0).word,
      ])
  }

  /// Double quantization: the matrix's absmax from the values in `absmax`.
  func quantizeAbsmax(_ absmax: Tensor, to matrix: NF4Matrix) throws {
    guard case .nested(let codes, let nested, let map, let offset, _) = matrix.absmax else { return }
    let count = codes.count
    let runs = (count + 16_383) / 16_384
    let sums = Tensor(
      try scratch(.partialSums, byteCount: (runs + 1) * 8), rows: 1, columns: (runs + 1) * 8, dtype: .uint8)
    let total = UInt64(sums.address) + UInt64(runs * 8)
    try launch("nf4_partial_sums", Grid(x: runs, threadsX: 256), [count.word, absmax.word, sums.word])
    try launch("sum_doubles", Grid(x: 1, threadsX: 256), [runs.word, sums.word, total])
    try launch(
      "nf4_quantize_absmax", Grid(x: nested.count, threadsX: 256),
      [count.word, absmax.word, total, map.word, codes.word, nested.word, offset.word])
  }

  /// The matrix's elements, rounded to bf16, into `target` `[rows, columns]`.
  func dequantize(_ matrix: NF4Matrix, into target: Tensor) throws {
    let grid = Grid.rows(matrix.rows, by: matrix.columns / 8)
    // Threads stride over what a grid of a few blocks per multiprocessor leaves, so that each fills its tables once.
    let most = max(1, context.multiprocessors * 16 / grid.x)
    let small = Grid(x: grid.x, y: min(grid.y, most), threadsX: grid.threadsX, threadsY: grid.threadsY)
    let size = [matrix.rows.word, matrix.columns.word, matrix.codes.word]
    let output = [target.word, target.rowStride.word, isAligned(target).word]
    switch matrix.absmax {
    case .plain(let values): try launch("nf4_dequantize_plain", small, size + [values.word] + output)
    case .nested(let codes, let nested, let map, let offset, let first):
      try launch(
        "nf4_dequantize", small,
        size + [codes.word, nested.word, map.word, offset.word, first.word] + output)
    }
  }

  /// Opens matrices in the place for such, unless they are there already.
  func opened(_ group: CUDAMatrixGroup, _ layout: OpenMatrices.Layout, _ parts: [CUDAMatrixGroup.Part]) throws
    -> OpenMatrices
  {
    let buffer = try scratch(.openMatrices, byteCount: layout.byteCount)
    let open = OpenMatrices(outputs: layout.outputs, storage: layout.tensor(buffer))
    if let openGroup, openGroup.group === group, openGroup.layout == layout, openGroup.buffer === buffer { return open }
    openGroup = nil
    try timer?.begin(.dequantization)
    for (index, part) in parts.enumerated() {
      switch part {
      case .nf4(let matrix): try dequantize(matrix, into: open.rows(of: index))
      case .int8(let matrix): try dequantize(matrix, into: open.rows(of: index))
      case .operands(let tensor): try copy(tensor, to: open.rows(of: index))
      }
    }
    try timer?.end()
    openGroup = OpenGroup(group: group, layout: layout, buffer: buffer)
    return open
  }

  /// What lies in the place for opened matrices.
  struct OpenGroup {
    weak var group: CUDAMatrixGroup?
    var layout: OpenMatrices.Layout
    var buffer: DeviceBuffer
  }
}
