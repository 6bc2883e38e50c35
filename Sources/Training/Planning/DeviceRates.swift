import Models
import Tensors

/// How fast a device does what a training step is made of: measured once on the device at hand.
public struct DeviceRates: Sendable, Equatable {
  /// Floating-point operations per second of matrix products.
  public var products: Double
  /// Tokens of the short documents.
  public var shortContext: Double
  /// Operations per second of attention over short documents, forward.
  public var shortAttention: Double
  /// Tokens of the long documents.
  public var longContext: Double
  /// Operations per second of attention over long documents, forward.
  public var longAttention: Double
  /// Operations per second of its backward pass over short documents.
  public var shortAttentionBackward: Double
  /// Those over long documents.
  public var longAttentionBackward: Double
  /// Bytes per second that an operation on elements reads and writes.
  public var elements: Double
  /// Bytes per second to or from the host's memory, beside other work.
  public var host: Double
  /// Quantized weights per second that are opened for a product; nil: as fast as elements are read and written.
  public var opening: Double?
  /// Seconds for each element that an adapter's products of rank 16 read or write, in both passes; nil: as elements are.
  public var lowRank: Double?

  /// Rates from their parts.
  public init(
    products: Double, shortContext: Double, shortAttention: Double, longContext: Double, longAttention: Double,
    shortAttentionBackward: Double, longAttentionBackward: Double, elements: Double, host: Double
  ) {
    self.products = products
    self.shortContext = shortContext
    self.shortAttention = shortAttention
    self.longContext = longContext
    self.longAttention = longAttention
    self.shortAttentionBackward = shortAttentionBackward
    self.longAttentionBackward = longAttentionBackward
    self.elements = elements
    self.host = host
  }

  /// Attention's rate over documents of `context` tokens, forward.
  func attention(context: Int) -> Double { rate(context, shortAttention, longAttention) }
  /// That of its backward pass.
  func attentionBackward(context: Int) -> Double { rate(context, shortAttentionBackward, longAttentionBackward) }

  /// A rate between those of short and of long documents, and beyond: work grows with the square of them, what it costs to begin
  /// does not.
  ///
  /// Far beyond, a card's cap of power keeps most of what would be gained: an H200 does 65,536 to 368,640 tokens about 5% faster
  /// than 8,192, forward and backward, where the straight line would have it 24% faster.
  private func rate(_ context: Int, _ short: Double, _ long: Double) -> Double {
    // seconds per operation = a + b / context through both points.
    let b = (1 / short - 1 / long) / (1 / shortContext - 1 / longContext)
    let a = 1 / long - b / longContext
    return 1 / max(a + b / Double(max(context, 1)), 0.95 / max(short, long))
  }

  // MARK: Measuring

  /// Measures on `device`, some seconds, with heads as a model of the shape has them, and where the device's memory is the
  /// host's, whose caches tell sizes apart, with matrices `[outputs, inputs]` as it has them too.
  public static func measured(
    on device: any Device, heads: AttentionShape, matrix: (outputs: Int, inputs: Int)
  ) throws -> DeviceRates {
    let isHost = device.memory == nil
    // Rows enough to tell; all of a large matrix would be much memory.
    let matrix = (outputs: max(16, min(matrix.outputs, (16 << 20) / matrix.inputs / 16 * 16)), inputs: matrix.inputs)
    var heads = heads
    if isHost {
      // Seconds on a GPU would be minutes here; a few heads keep all threads busy.
      let group = heads.heads / max(1, heads.keyValueHeads)
      heads.keyValueHeads = max(1, min(heads.keyValueHeads, 8 / max(1, group)))
      heads.heads = heads.keyValueHeads * group
    }
    let (short, long) = isHost ? (256, 1024) : (1024, 8192)
    let atShort = try attention(on: device, heads, tokens: short)
    let atLong = try attention(on: device, heads, tokens: long)
    var rates = DeviceRates(
      products: try products(
        on: device, isHost ? matrix : (4096, 4096), tokens: isHost ? 512 : 4096), shortContext: Double(short),
      shortAttention: atShort.forward, longContext: Double(long), longAttention: atLong.forward,
      shortAttentionBackward: atShort.backward, longAttentionBackward: atLong.backward,
      elements: try elements(on: device, bytes: (isHost ? 64 : 512) << 20),
      host: try host(on: device, bytes: (isHost ? 64 : 256) << 20))
    if isHost {
      rates.opening = try opening(on: device, matrix)
      rates.lowRank = try lowRank(on: device, matrix)
    }
    return rates
  }

  /// Seconds of one run among many.
  ///
  /// A card that has been idle computes faster for a moment than its cap of power allows for long: what it does at the end of
  /// some tenths of a second is what a step gets.
  private static func seconds(_ device: any Device, _ work: () throws -> Void) throws -> Double {
    try work()
    try device.synchronize()
    guard device.memory != nil else {
      // What a step gets is the middle of many.
      var (start, times) = (MonotonicClock.now(), [Double]())
      let begin = start
      while times.count < 5 || start - begin < 0.3 {
        try work()
        let end = MonotonicClock.now()
        times.append(end - start)
        start = end
      }
      return times.sorted()[times.count / 2]
    }
    let begin = MonotonicClock.now()
    var (start, times) = (begin, [Double]())
    while start - begin < 0.6, times.count < 10_000 {
      try work()
      try device.synchronize()
      let end = MonotonicClock.now()
      times.append(end - start)
      start = end
    }
    return times.suffix((times.count + 2) / 3).sorted()[(times.count + 2) / 3 / 2]
  }

  private static func tensor(_ rows: Int, _ columns: Int, _ dtype: DType, on device: any Device) throws -> Tensor {
    let tensor = Tensor(
      try device.allocate(byteCount: rows * columns * dtype.byteCount), rows: rows, columns: columns, dtype: dtype)
    try device.zero(tensor)
    return tensor
  }

  private static func products(
    on device: any Device, _ size: (outputs: Int, inputs: Int), tokens: Int
  ) throws -> Double {
    let matrix = try device.makeRandomMatrices(
      outputs: [size.outputs], inputs: size.inputs, bound: 1, seed: 1, storage: .operands, segment: nil)[0]
    let x = try tensor(tokens, size.inputs, device.computeType, on: device)
    let y = try tensor(tokens, size.outputs, device.computeType, on: device)
    // Zeros would cost a card less power than a step does.
    try device.copy(random(tokens, size.inputs, on: device), to: x)
    let repetitions = 8
    let time = try seconds(device) {
      for _ in 0..<repetitions {
        try device.linear(x, [Projection(matrix)], into: [y], lowRank: [nil], accumulate: false, dropout: nil)
      }
    }
    return 2 * Double(size.outputs) * Double(size.inputs) * Double(tokens) * Double(repetitions) / time
  }

  /// Seconds for each element that the low-rank products of an adapter of rank 16 read or write, both passes together: what a
  /// processor's products take longer with one.
  private static func lowRank(on device: any Device, _ size: (outputs: Int, inputs: Int)) throws -> Double {
    let (tokens, rank, compute) = (512, 16, device.computeType)
    let matrix = try device.makeRandomMatrices(
      outputs: [size.outputs], inputs: size.inputs, bound: 1, seed: 1, storage: .operands, segment: nil)[0]
    let x = try tensor(tokens, size.inputs, compute, on: device)
    try device.copy(random(tokens, size.inputs, on: device), to: x)
    let y = try tensor(tokens, size.outputs, compute, on: device)
    let dx = try tensor(tokens, size.inputs, compute, on: device)
    let (s, ds) = (try tensor(tokens, rank, compute, on: device), try tensor(tokens, rank, compute, on: device))
    let pair = LowRankPair(
      a: try tensor(rank, size.inputs, compute, on: device),
      scaledB: try tensor(size.outputs, rank, compute, on: device),
      gradientA: try tensor(rank, size.inputs, .float32, on: device),
      gradientB: try tensor(size.outputs, rank, .float32, on: device), dropout: 0, stream: 0)
    func seconds(_ projection: Projection, _ s: Tensor?, _ ds: Tensor?) throws -> Double {
      try Self.seconds(device) {
        for _ in 0..<4 {
          try device.linear(x, [projection], into: [y], lowRank: [s], accumulate: false, dropout: nil)
          try device.linearBackward(
            [y], [projection], lowRank: [s], lowRankGradients: [ds], into: dx, dropout: nil)
          if s != nil { try device.linearBackwardA(x, [projection], lowRankGradients: [ds], dropout: nil) }
        }
      }
    }
    let (with, without) = try (seconds(Projection(matrix, lowRank: pair), s, ds), seconds(Projection(matrix), nil, nil))
    return max(with - without, 1e-3 * with) / Double(4 * tokens * (size.outputs + size.inputs))
  }

  /// What products of few rows, in both directions, take longer with matrices in NF4, which are opened for each of them.
  private static func opening(on device: any Device, _ size: (outputs: Int, inputs: Int)) throws -> Double {
    // More rows than are multiplied straight from the codes.
    let tokens = 64
    let inputs = (size.inputs + NF4Blocks.blockLength - 1) / NF4Blocks.blockLength * NF4Blocks.blockLength
    // In turn, so that none is open when it is asked for.
    let count = max(2, min(8, (32 << 20) / (size.outputs * inputs)))
    let operand = try tensor(tokens, inputs, device.computeType, on: device)
    try device.copy(random(tokens, inputs, on: device), to: operand)
    let y = try tensor(tokens, size.outputs, device.computeType, on: device)
    let gradient = try tensor(tokens, inputs, device.computeType, on: device)
    func seconds(_ storage: FrozenStorage) throws -> Double {
      let matrices = try (0..<count).map {
        try device.makeRandomMatrices(
          outputs: [size.outputs], inputs: inputs, bound: 1, seed: UInt64($0), storage: storage, segment: nil)[0]
      }
      return try Self.seconds(device) {
        for matrix in matrices {
          try device.linear(
            operand, [Projection(matrix)], into: [y], lowRank: [nil], accumulate: false, dropout: nil)
        }
        for matrix in matrices {
          try device.linearBackward(
            [y], [Projection(matrix)], lowRank: [nil], lowRankGradients: [nil], into: gradient, dropout: nil)
        }
      }
    }
    let (quantized, open) = try (seconds(.nf4(resident: false)), seconds(.operands))
    return 2 * Double(count * size.outputs * inputs) / max(quantized - open, 1e-3 * quantized)
  }

  private static func random(_ rows: Int, _ columns: Int, on device: any Device) throws -> Tensor {
    var random = RandomSource(seed: 5)
    // A few rows, again and again: the host draws slowly.
    let drawn = min(rows, 256)
    let values = (0..<drawn * columns).map { _ in Float(2 * random.uniform() - 1) }
    let few = try device.tensor(values, rows: drawn, columns: columns)
    let all = Tensor(
      try device.allocate(byteCount: rows * columns * 4), rows: rows, columns: columns, dtype: .float32)
    for start in stride(from: 0, to: rows, by: drawn) {
      let count = min(drawn, rows - start)
      try device.copy(few.prefix(count), to: all.rows(start..<start + count))
    }
    return all
  }

  private static func attention(
    on device: any Device, _ shape: AttentionShape, tokens: Int
  ) throws -> (forward: Double, backward: Double) {
    let (wide, narrow) = (shape.heads * shape.headDimension, shape.keyValueHeads * shape.headDimension)
    let compute = device.computeType
    // Queries, keys and values side by side, as in a step.
    var plan = ArenaPlan()
    let slots = plan.reserve(rows: tokens, sideBySide: [wide, narrow, narrow], compute)
    let gradients = plan.reserve(rows: tokens, sideBySide: [wide, narrow, narrow], compute)
    let arena = try Arena(plan, on: device)
    let (q, k, v) = (arena[slots[0]], arena[slots[1]], arena[slots[2]])
    for tensor in [q, k, v] { try device.copy(random(tokens, tensor.columns, on: device), to: tensor) }
    let output = try tensor(tokens, wide, compute, on: device)
    let logSumExp = try tensor(shape.heads, tokens, .float32, on: device)
    let spans = [AttentionSpan(queries: 0..<tokens, keys: 0..<tokens)]
    let work = 2 * Double(tokens) * Double(tokens) * Double(wide)
    let forward = try seconds(device) {
      try device.attention(q, k, v, shape, spans, into: output, logSumExp: logSumExp)
    }
    let workspace = try tensor(1, device.attentionWorkspace(shape, spans, inPlace: false), .uint8, on: device)
    let backward = try seconds(device) {
      try device.attentionBackward(
        output, q, k, v, output, logSumExp: logSumExp, shape, spans, into: arena[gradients[0]], arena[gradients[1]],
        arena[gradients[2]], workspace: workspace)
    }
    return (work / forward, 2.5 * work / backward)
  }

  private static func elements(on device: any Device, bytes: Int) throws -> Double {
    let (from, to) = (
      try tensor(1, bytes / 4, .float32, on: device), try tensor(1, bytes / 4, .float32, on: device)
    )
    return try 2 * Double(bytes) / seconds(device) { try device.copy(from, to: to) }
  }

  private static func host(on device: any Device, bytes: Int) throws -> Double {
    let tensor = try tensor(1, bytes / 4, .float32, on: device)
    let store = try device.makeHostStore(places: [bytes])
    return try Double(bytes)
      / seconds(device) {
        try store.store([tensor], in: 0)
        try store.wait(0)
      }
  }
}
