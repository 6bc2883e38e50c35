import Models
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// One operation at one shape.
struct Case: Sendable {
  /// "attention 40/10 heads of 128, 2048 tokens".
  var name: String
  /// Whether the reference in double precision is too slow for it; the CPU device in fp32 is then the only one.
  var isLarge = false
  /// Whether the CPU device, which has no NF4, cannot be asked.
  var isInNF4 = false
  /// Runs the operation and records what came out.
  var run: @Sendable (Trial) throws -> Void

  /// Whether every tensor of it may have room between its rows.
  var goesFar: Bool {
    let kinds = ["linear", "head", "feed-forward", "RMSNorm", "RoPE", "SwiGLU", "attention", "cross-entropy", "gather"]
    return kinds.contains { name.hasPrefix($0) } && !name.hasPrefix("RMSNorm of heads") && !isLarge
  }

  /// Every case: small shapes, odd ones among them, and, where asked, the shapes of real models.
  static func all(large: Bool) -> [Case] {
    var cases = memory + linear + normedProducts + feedForward + elementwise + attention + decoding + rest + training
    if large { cases += largeCases + largeDecoding }
    return cases
  }
}

// MARK: Memory

extension Case {
  private static let memory: [Case] = [(5, 33, 3), (64, 128, 0), (7, 8, 8)].flatMap { rows, columns, pad in
    [
      Case(name: "copy \(rows) × \(columns), \(pad) between rows") { trial in
        let device = trial.device
        let x = try trial.operand(rows, columns, pad: pad)
        let wide = try trial.empty(rows, columns, .float32, pad: pad)
        let narrow = try trial.empty(rows, columns, pad: pad)
        let same = try trial.empty(rows, columns, pad: 1)
        try device.copy(x, to: wide)
        try device.copy(wide, to: narrow)
        try device.copy(narrow, to: same)
        try trial.record("widened", wide, bound: Bounds.exact)
        try trial.record("copied", same, bound: Bounds.exact)
        let exact = try trial.floats(rows, columns)
        try device.copy(exact, to: narrow)
        try trial.record("narrowed", narrow, bound: Bounds.rounded)
        let scaled = try trial.empty(rows, columns, .float32)
        try device.scale(exact, by: 0.37, to: scaled)
        try trial.record("scaled", scaled, bound: Bounds.float)
        let zero = try trial.empty(rows, columns, pad: pad)
        try device.zero(zero)
        try trial.record("zero", zero, bound: Bounds.exact)
      },
      Case(name: "gather and scatter \(rows) × \(columns), \(pad) between rows") { trial in
        let device = trial.device
        let x = try trial.operand(rows, columns, pad: pad)
        let index = (0..<rows).map { Int32(($0 * 3 + 1) % rows) }
        let gathered = try trial.empty(rows, columns)
        try device.gather(x, rows: index, to: gathered)
        try trial.record("gathered", gathered, bound: Bounds.exact)
        let floats = try trial.floats(rows, columns)
        let scattered = try trial.floats(rows, columns, pad: pad)
        try device.scatter(floats, to: scattered, rows: Array(index.prefix(rows - 1)))
        try trial.record("scattered", scattered, bound: Bounds.exact)
      },
    ]
  }
}

// MARK: Products

/// A group of projections.
struct LinearShape: Sendable {
  var rows: Int
  var inputs: Int
  var outputs: [Int]
  /// 0: no adapter.
  var ranks: [Int]
  var accumulate = false
  var dropout: Float = 0
  /// Whether tensors are laid out as a device that multiplies groups as one asks for.
  var sideBySide = true
  var floatOutput = false
  /// Whether the adapters learn; else only the forward pass is asked for, as in decoding.
  var learns = true
  /// How the first matrix is kept, and how the others are.
  var storage: (first: FrozenStorage, others: FrozenStorage) = (.operands, .operands)

  var name: String {
    var text = "linear \(rows) × \(inputs) → \(outputs.map(String.init).joined(separator: "+"))"
    text += " rank \(ranks.map(String.init).joined(separator: "+"))"
    if accumulate { text += " accumulating" }
    if floatOutput { text += " fp32" }
    if !learns { text += " frozen" }
    if dropout > 0 { text += " dropout \(dropout)" }
    if !sideBySide { text += " apart" }
    switch storage {
    case (.operands, .operands), (.tiled, _): break
    case (.operands, _): text += ", all but the first in NF4"
    case (.nf4(let resident), _): text += resident ? ", NF4 dequantized once" : ", NF4"
    }
    return text
  }
}

extension Case {
  private static let linear: [Case] =
    [
      LinearShape(rows: 32, inputs: 64, outputs: [48], ranks: [8]),
      LinearShape(rows: 64, inputs: 96, outputs: [96, 32, 32], ranks: [8, 8, 8]),
      LinearShape(rows: 33, inputs: 40, outputs: [56, 24, 24], ranks: [4, 0, 4]),
      LinearShape(rows: 64, inputs: 64, outputs: [128, 128], ranks: [16, 16]),
      LinearShape(rows: 1, inputs: 72, outputs: [40, 8, 8], ranks: [3, 3, 3]),
      LinearShape(rows: 32, inputs: 64, outputs: [72], ranks: [16], accumulate: true, floatOutput: true),
      LinearShape(rows: 17, inputs: 33, outputs: [29], ranks: [5], sideBySide: false, floatOutput: true),
      LinearShape(rows: 32, inputs: 48, outputs: [40, 40], ranks: [0, 0]),
      LinearShape(rows: 32, inputs: 48, outputs: [40, 16, 16], ranks: [8, 8, 8], sideBySide: false),
      LinearShape(rows: 31, inputs: 50, outputs: [64, 64], ranks: [8, 8], dropout: 0.25),
      LinearShape(rows: 8, inputs: 64, outputs: [32], ranks: [96]),
      LinearShape(
        rows: 64, inputs: 64, outputs: [96, 32, 32], ranks: [8, 8, 8],
        storage: (.nf4(resident: false), .nf4(resident: false))),
      LinearShape(rows: 33, inputs: 320, outputs: [120], ranks: [4], storage: (.nf4(resident: true), .operands)),
      LinearShape(
        rows: 32, inputs: 40, outputs: [72, 24], ranks: [0, 4], storage: (.operands, .nf4(resident: false))),
      LinearShape(
        rows: 1, inputs: 1120, outputs: [45, 16], ranks: [8, 40], accumulate: true,
        storage: (.nf4(resident: false), .nf4(resident: false))),
      LinearShape(
        rows: 1, inputs: 128, outputs: [300, 300], ranks: [0, 0],
        storage: (.nf4(resident: false), .nf4(resident: false))),
    ].map(linear) + fewRows.map(linear)
    + [
      (1, 64, 300, FrozenStorage.operands), (33, 50, 129, .operands), (64, 64, 512, .operands),
      (1, 64, 300, .tiled(.int8)), (33, 128, 200, .tiled(.int8)), (1, 64, 300, .tiled(.nf4)),
      (40, 192, 257, .tiled(.nf4)),
    ].map { rows, inputs, vocabulary, storage in
      let kind =
        switch storage {
        case .tiled(.int8): ", 8 bits"
        case .tiled(.nf4): ", NF4"
        default: ""
        }
      return Case(name: "head \(rows) × \(inputs) → \(vocabulary)\(kind)", isInNF4: storage != .operands) { trial in
        let x = try trial.operand(rows, inputs)
        let head = try trial.matrices([vocabulary], inputs, kept: [storage])[0]
        let logits = try trial.empty(rows, vocabulary, .float32)
        try trial.device.logits(x, head, into: logits)
        // A few rows read NF4 without rounding what it opens.
        try trial.record("logits", logits, bound: storage == .tiled(.nf4) && rows <= 64 ? Bounds.rounded : Bounds.float)
        let gradient = try trial.operand(rows, vocabulary)
        let dx = try trial.empty(rows, inputs, .float32)
        try trial.device.logitsBackward(gradient, head, into: dx)
        try trial.record("dx", dx, bound: Bounds.float)
      }
    }

  /// Products of a few rows, as decoding has them.
  private static let fewRows: [LinearShape] = {
    let nf4 = FrozenStorage.nf4(resident: false)
    return [
      LinearShape(rows: 1, inputs: 192, outputs: [72, 24, 24], ranks: [8, 0, 3], learns: false, storage: (nf4, nf4)),
      LinearShape(rows: 3, inputs: 64, outputs: [45], ranks: [0], learns: false, storage: (nf4, nf4)),
      LinearShape(
        rows: 8, inputs: 704, outputs: [50, 16], ranks: [4, 16], accumulate: true, floatOutput: true, learns: false,
        storage: (nf4, nf4)),
      LinearShape(rows: 13, inputs: 320, outputs: [40, 16, 24], ranks: [5, 5, 5], learns: false, storage: (nf4, nf4)),
      LinearShape(rows: 5, inputs: 256, outputs: [40, 24], ranks: [4, 4], learns: false, storage: (.operands, nf4)),
      LinearShape(rows: 29, inputs: 128, outputs: [33], ranks: [8], learns: false, storage: (nf4, nf4)),
      LinearShape(rows: 61, inputs: 704, outputs: [150, 41], ranks: [8, 0], learns: false, storage: (nf4, nf4)),
      LinearShape(
        rows: 32, inputs: 1088, outputs: [300, 9, 17], ranks: [8, 0, 3], learns: false, storage: (nf4, nf4)),
      LinearShape(rows: 40, inputs: 192, outputs: [4099], ranks: [4], learns: false, storage: (nf4, nf4)),
      LinearShape(
        rows: 6, inputs: 1344, outputs: [75, 30], ranks: [33, 16], accumulate: true, learns: false,
        storage: (nf4, nf4)),
      LinearShape(rows: 20, inputs: 320, outputs: [70], ranks: [40], learns: false, storage: (nf4, nf4)),
      LinearShape(
        rows: 64, inputs: 2560, outputs: [299], ranks: [4], accumulate: true, floatOutput: true, learns: false,
        storage: (nf4, nf4)),
      LinearShape(rows: 1, inputs: 640, outputs: [70, 9], ranks: [2, 4], learns: false),
      LinearShape(
        rows: 11, inputs: 192, outputs: [31], ranks: [8], accumulate: true, floatOutput: true, learns: false),
      // Rows of which a warp takes two pieces of 1,024 columns, in two kinds of block, and more than the kernel of one row takes.
      LinearShape(
        rows: 1, inputs: 17_920, outputs: [37], ranks: [4], accumulate: true, floatOutput: true, learns: false,
        storage: (nf4, nf4)),
      LinearShape(rows: 1, inputs: 28_672, outputs: [21], ranks: [0], learns: false, storage: (nf4, nf4)),
      LinearShape(rows: 1, inputs: 40_960, outputs: [5], ranks: [0], learns: false, storage: (nf4, nf4)),
      // More than one block's shared memory holds of x.
      LinearShape(rows: 16, inputs: 5120, outputs: [19, 8], ranks: [4, 0], learns: false, storage: (nf4, nf4)),
      LinearShape(
        rows: 3, inputs: 17_920, outputs: [24], ranks: [4], accumulate: true, learns: false,
        storage: (nf4, nf4)),
      LinearShape(rows: 16, inputs: 5120, outputs: [17], ranks: [4], floatOutput: true, learns: false),
      // In bf16: one team of warps in each kind of block, more columns than the widest takes, several kinds of matrix.
      LinearShape(rows: 1, inputs: 5120, outputs: [41, 13], ranks: [4, 0], learns: false),
      LinearShape(
        rows: 1, inputs: 17_920, outputs: [37], ranks: [4], accumulate: true, floatOutput: true, learns: false),
      LinearShape(rows: 1, inputs: 28_672, outputs: [21], ranks: [0], accumulate: true, learns: false),
      LinearShape(rows: 1, inputs: 40_960, outputs: [5], ranks: [0], learns: false),
      LinearShape(rows: 1, inputs: 1536, outputs: [40, 24], ranks: [4, 4], learns: false, storage: (.operands, nf4)),
      // So many rows that their sums are finished in several rounds, as of a head: of four multiprocessors, of 132.
      LinearShape(rows: 1, inputs: 5120, outputs: [2055], ranks: [0], floatOutput: true, learns: false),
      LinearShape(rows: 1, inputs: 320, outputs: [15_003], ranks: [0], floatOutput: true, learns: false),
      LinearShape(rows: 1, inputs: 2496, outputs: [36_003], ranks: [4], accumulate: true, learns: false),
    ]
  }()

  static func linear(_ shape: LinearShape) -> Case {
    let isInNF4 = shape.storage.first != .operands || shape.storage.others != .operands
    return Case(name: shape.name, isInNF4: isInNF4) { trial in
      let device = trial.device
      let tail = shape.sideBySide ? device.operandTail(ranks: shape.ranks) : nil
      // Tensors of the group: side by side with room behind them, or each on its own.
      func group(_ columns: [Int], _ dtype: DType, tail: Int?, pad: Int = 0) throws -> [Tensor] {
        guard let tail else { return try columns.map { try trial.empty(shape.rows, $0, dtype, pad: pad) } }
        let whole = try trial.empty(shape.rows, columns.reduce(0, +), dtype, tail: tail)
        var first = 0
        return columns.map { count in
          defer { first += count }
          return whole.columns(first..<first + count)
        }
      }
      func filled(_ tensors: [Tensor]) throws -> [Tensor] {
        for tensor in tensors { try trial.fill(tensor, trial.values(tensor.count)) }
        return tensors
      }
      let x = try filled(group([shape.inputs], device.computeType, tail: tail))[0]
      let matrices = try trial.matrices(
        shape.outputs, shape.inputs,
        kept: shape.outputs.indices.map { $0 == 0 ? shape.storage.first : shape.storage.others })
      // Every A, then every B, one after the other, as an adapter keeps them.
      let ranks = shape.ranks
      let count = zip(ranks, shape.outputs).reduce(0) { $0 + $1.0 * (shape.inputs + $1.1) }
      let parameters = try trial.operand(1, max(count, 1), scale: 0.3)
      let gradients = try trial.floats(1, max(count, 1))
      var offset = 0
      func part(_ flat: Tensor, _ rows: Int, _ columns: Int) -> Tensor {
        flat.columns(offset..<offset + rows * columns).reshaped(rows: rows, columns: columns)
      }
      var a: [(Tensor, Tensor)] = []
      for rank in ranks {
        a.append((part(parameters, rank, shape.inputs), part(gradients, rank, shape.inputs)))
        offset += rank * shape.inputs
      }
      var projections: [Projection] = []
      for (index, rank) in ranks.enumerated() {
        let outputs = shape.outputs[index]
        let b = (part(parameters, outputs, rank), part(gradients, outputs, rank))
        offset += rank * outputs
        let pair = LowRankPair(
          a: a[index].0, scaledB: b.0, gradientA: shape.learns ? a[index].1 : nil,
          gradientB: shape.learns ? b.1 : nil, dropout: shape.dropout, stream: UInt32(index + 3))
        projections.append(Projection(matrices[index], lowRank: rank > 0 ? pair : nil))
      }
      let present = ranks.indices.filter { ranks[$0] > 0 }
      func kept() throws -> [Tensor?] {
        let tensors = try group(present.map { ranks[$0] }, device.computeType, tail: tail == nil ? nil : 0)
        return ranks.indices.map { index in present.firstIndex(of: index).map { tensors[$0] } }
      }
      let key = shape.dropout > 0 ? DropoutKey(seed: 3407, counter: 11) : nil
      let lowRank = try kept()
      var y = try group(shape.outputs, shape.floatOutput ? .float32 : device.computeType, tail: tail)
      if shape.accumulate { y = try filled(y) }
      try device.linear(x, projections, into: y, lowRank: lowRank, accumulate: shape.accumulate, dropout: key)
      for index in y.indices {
        try trial.record("y\(index)", y[index], bound: present.isEmpty ? Bounds.rounded : Bounds.twice)
      }
      for case let s? in lowRank { try trial.record("lowRank", s, bound: Bounds.rounded) }
      let again = try kept()
      try device.lowRankInput(x, projections, into: again, dropout: key)
      for case let s? in again { try trial.record("lowRank again", s, bound: Bounds.rounded) }
      guard shape.learns else { return }

      let dy = try filled(group(shape.outputs, device.computeType, tail: tail))
      let lowRankGradients = try kept()
      let dx = try trial.empty(shape.rows, shape.inputs, .float32)
      try device.linearBackward(
        dy, projections, lowRank: lowRank, lowRankGradients: lowRankGradients, into: dx, dropout: key)
      try device.linearBackwardA(x, projections, lowRankGradients: lowRankGradients, dropout: key)
      try trial.record("dx", dx, bound: Bounds.twice)
      if !present.isEmpty { try trial.record("dA and dB", gradients, bound: Bounds.twice) }
    }
  }
}

// MARK: The feed-forward block

extension Case {
  /// The two operations that a device may do in one piece with the activation.
  static let feedForward: [Case] = [
    (32, 64, 48, 8, true), (17, 40, 33, 0, true), (1, 192, 75, 4, false), (9, 128, 72, 8, false),
  ].map { rows, hidden, width, rank, learns in
    Case(
      name: "feed-forward \(rows) × \(hidden) → \(width) rank \(rank)\(learns ? "" : " frozen, NF4")",
      isInNF4: !learns
    ) { trial in
      let device = trial.device
      func pair(_ outputs: Int, _ inputs: Int, _ stream: UInt32) throws -> LowRankPair? {
        guard rank > 0 else { return nil }
        return LowRankPair(
          a: try trial.operand(rank, inputs, scale: 0.3), scaledB: try trial.operand(outputs, rank, scale: 0.3),
          gradientA: learns ? try trial.floats(rank, inputs) : nil,
          gradientB: learns ? try trial.floats(outputs, rank) : nil, dropout: 0, stream: stream)
      }
      func kept() throws -> Tensor? { rank > 0 ? try trial.empty(rows, rank) : nil }
      let x = try trial.operand(rows, hidden)
      let storage = learns ? FrozenStorage.operands : .nf4(resident: false)
      let matrices = try trial.matrices([width, width], hidden, kept: [storage, storage])
      let gateUp = [
        Projection(matrices[0], lowRank: try pair(width, hidden, 0)),
        Projection(matrices[1], lowRank: try pair(width, hidden, 1)),
      ]
      let down = [Projection(try trial.matrices([hidden], width)[0], lowRank: try pair(hidden, width, 2))]
      let (gate, up) = (try trial.empty(rows, width), try trial.empty(rows, width))
      let activation = try trial.empty(rows, width)
      try device.linearSwiGLU(
        x, gateUp, gate: gate, up: up, lowRank: [try kept(), try kept()], into: activation, dropout: nil)
      try trial.record("activation", activation, bound: Bounds.twice)
      guard learns else { return }
      let lowRank = try kept()
      try device.lowRankInput(activation, down, into: [lowRank], dropout: nil)
      let dy = try trial.operand(rows, hidden)
      try device.linearSwiGLUBackward(
        dy, down, lowRank: [lowRank], lowRankGradients: [try kept()], gate: gate, up: up, activation: activation,
        dropout: nil)
      try trial.record("dgate", gate, bound: 2 * Bounds.twice)
      try trial.record("dup", up, bound: 2 * Bounds.twice)
      try trial.record("activation again", activation, bound: Bounds.twice)
    }
  }
}

// MARK: Norms, rotation, activation

extension Case {
  private static let elementwise: [Case] =
    [(3, 33, 0), (16, 64, 0), (5, 576, 8), (1, 24, 1)].map { rows, width, pad in
      Case(name: "RMSNorm \(rows) × \(width), \(pad) between rows", run: norm(rows, width, pad))
    }
    + [(6, 4, 64, 64, false), (5, 3, 16, 8, true), (9, 2, 24, 20, true), (1, 9, 128, 96, false)].map {
      rows, heads, d, turning, biased in
      Case(name: "RoPE \(rows) × \(heads) heads of \(d), \(turning) turn\(biased ? ", bias" : "")") { trial in
        let device = trial.device
        let positions = trial.integers(rows, below: 50)
        let angles = (0..<50 * turning / 2).map { Double($0 / (turning / 2)) * pow(0.7, Double($0 % (turning / 2))) }
        let cosines = try trial.tensor(50, turning / 2, angles.map { Float(cos($0)) }, .float32, isDense: true)
        let sines = try trial.tensor(50, turning / 2, angles.map { Float(sin($0)) }, .float32, isDense: true)
        let x = try trial.operand(rows, heads * d)
        let bias = biased ? try trial.floats(1, heads * d) : nil
        for inverse in [false, true] {
          try device.rotate(
            x, headDimension: d, bias: bias, positions: positions, cosines: cosines, sines: sines, inverse: inverse)
          try trial.record(inverse ? "back" : "turned", x, bound: Bounds.twice)
        }
        let b = try trial.floats(1, heads * d)
        try device.addBias(b, to: x)
        try trial.record("biased", x, bound: Bounds.twice)
      }
    }
    + [(5, 3, 64), (4, 2, 20), (1, 4, 128)].map { rows, heads, d in
      Case(name: "RMSNorm of heads \(rows) × \(heads) × \(d)") { trial in
        let device = trial.device
        let x = try trial.operand(rows, heads * d, scale: 2, pad: 8)
        let gamma = try trial.floats(1, d)
        let y = try trial.empty(rows, heads * d)
        let rstd = try trial.empty(rows, heads, .float32)
        try device.headNorm(x, gamma, epsilon: 1e-6, into: y, rstd: rstd)
        try trial.record("y", y, bound: Bounds.rounded)
        try trial.record("rstd", rstd, bound: Bounds.float)
        let gradient = try trial.operand(rows, heads * d)
        try device.headNormBackward(gradient, x, rstd: rstd, gamma)
        try trial.record("dx", gradient, bound: Bounds.rounded)
        let residual = try trial.floats(rows, heads * d)
        try device.addBias(trial.floats(1, heads * d), to: residual)
        try trial.record("biased", residual, bound: Bounds.float)
      }
    }
    + [(4, 33, 0), (16, 128, 0), (3, 40, 8)].map { rows, width, pad in
      Case(name: "SwiGLU \(rows) × \(width), \(pad) between rows", run: swiGLU(rows, width, pad))
    }

  private static func norm(_ rows: Int, _ width: Int, _ pad: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let x = try trial.floats(rows, width, scale: 3, pad: pad)
      let gamma = try trial.floats(1, width)
      let y = try trial.empty(rows, width, pad: pad)
      let saved = try trial.empty(rows, width)
      let rstd = try trial.empty(1, rows, .float32)
      try device.rmsNorm(x, gamma, epsilon: 1e-5, into: y, rstd: rstd, saved: saved)
      try trial.record("y", y, bound: Bounds.rounded)
      try trial.record("rstd", rstd, bound: Bounds.float)
      try trial.record("saved", saved, bound: Bounds.rounded)
      let again = try trial.empty(rows, width, pad: pad)
      try device.rmsNormAgain(saved, rstd: rstd, gamma, into: again)
      try trial.record("y again", again, bound: Bounds.twice)
      let dx = try trial.floats(rows, width, pad: pad)
      let copy = try trial.empty(rows, width)
      let dy = try trial.floats(rows, width, pad: pad)
      try device.rmsNormBackward(dy, saved: saved, rstd: rstd, gamma, addingTo: dx, copy: copy)
      try trial.record("dx", dx, bound: Bounds.rounded)
      try trial.record("dx copy", copy, bound: Bounds.twice)
    }
  }

  private static func swiGLU(_ rows: Int, _ width: Int, _ pad: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let gate = try trial.operand(rows, width, scale: 6, pad: pad)
      let up = try trial.operand(rows, width, pad: pad)
      let y = try trial.empty(rows, width, pad: 1)
      try device.swiGLU(gate, up, into: y)
      try trial.record("y", y, bound: Bounds.rounded)
      let dy = try trial.operand(rows, width)
      try device.swiGLUBackward(dy, gate, up, y: dy)
      try trial.record("dgate", gate, bound: Bounds.rounded)
      try trial.record("dup", up, bound: Bounds.rounded)
      try trial.record("y again", dy, bound: Bounds.rounded)
    }
  }
}

// MARK: Attention

extension Case {
  private static let attention: [Case] = [
    attention(2, 1, 64, [1]),
    attention(2, 2, 64, [65]),
    attention(3, 1, 40, [17, 1, 70]),
    attention(4, 2, 96, [33, 40]),
    attention(4, 1, 128, [100]),
    attention(2, 2, 16, [130], window: 9),
    attention(2, 1, 128, [20, 75], window: 33),
    attention(2, 1, 20, [37], pad: 3),
    // Long enough for heads of keys to go one after the other where gradients take the places of what they are computed from.
    attention(4, 2, 16, [300, 212]),
    attention(4, 2, 64, [1], cached: 90),
    attention(4, 2, 64, [70], cached: 31),
  ]

  /// Documents of `lengths` tokens; `cached`: keys that stand before each document's own.
  static func attention(
    _ heads: Int, _ keyValueHeads: Int, _ d: Int, _ lengths: [Int], window: Int? = nil, cached: Int = 0, pad: Int = 0,
    isLarge: Bool = false
  ) -> Case {
    var name =
      "attention \(heads)/\(keyValueHeads) heads of \(d), \(lengths.map(String.init).joined(separator: "+")) tokens"
    if let window { name += ", window \(window)" }
    if cached > 0 { name += " after \(cached)" }
    return Case(name: name, isLarge: isLarge) { trial in
      let device = trial.device
      let rows = lengths.reduce(0, +)
      let shape = AttentionShape(heads: heads, keyValueHeads: keyValueHeads, headDimension: d, window: window)
      var spans: [AttentionSpan] = []
      var (row, key) = (0, 0)
      for length in lengths {
        spans.append(AttentionSpan(queries: row..<row + length, keys: key..<key + cached + length))
        row += length
        key += cached + length
      }
      // Slices of one fused matrix where nothing is cached, as training lays them out.
      let (q, k, v): (Tensor, Tensor, Tensor)
      if cached == 0 {
        let fused = try trial.operand(rows, (heads + 2 * keyValueHeads) * d, scale: 2, pad: pad)
        q = fused.columns(0..<heads * d)
        k = fused.columns(heads * d..<(heads + keyValueHeads) * d)
        v = fused.columns((heads + keyValueHeads) * d..<(heads + 2 * keyValueHeads) * d)
      } else {
        q = try trial.operand(rows, heads * d, scale: 2)
        k = try trial.operand(key, keyValueHeads * d, scale: 2)
        v = try trial.operand(key, keyValueHeads * d, scale: 2)
      }
      let output = try trial.empty(rows, heads * d, pad: pad)
      let lse = try trial.empty(heads, rows, .float32)
      try device.attention(q, k, v, shape, spans, into: output, logSumExp: lse)
      try trial.record("output", output, bound: Bounds.twice)
      try trial.record("logSumExp", lse, bound: Bounds.approximate)
      guard cached == 0 else { return }
      let gradient = try trial.operand(rows, heads * d, pad: pad)
      let dq = try trial.empty(rows, heads * d, pad: pad)
      let dk = try trial.empty(rows, keyValueHeads * d, pad: pad)
      let dv = try trial.empty(rows, keyValueHeads * d, pad: pad)
      func backward(into dq: Tensor, _ dk: Tensor, _ dv: Tensor, inPlace: Bool) throws {
        let workspace = try trial.empty(1, max(1, device.attentionWorkspace(shape, spans, inPlace: inPlace)), .uint8)
        try device.attentionBackward(
          gradient, q, k, v, output, logSumExp: lse, shape, spans, into: dq, dk, dv, workspace: workspace)
        func name(_ tensor: String) -> String { inPlace ? "d\(tensor) in the place of \(tensor)" : "d\(tensor)" }
        try trial.record(name("q"), dq, bound: Bounds.attentionGradient)
        try trial.record(name("k"), dk, bound: Bounds.attentionGradient)
        try trial.record(name("v"), dv, bound: Bounds.twice)
      }
      try backward(into: dq, dk, dv, inPlace: false)
      try backward(into: q, k, v, inPlace: true)
    }
  }
}

// MARK: Loss and optimizer

extension Case {
  private static let rest: [Case] =
    [(3, 33), (8, 512), (2, 1001)].map { rows, vocabulary in
      Case(name: "cross-entropy \(rows) × \(vocabulary)", run: crossEntropy(rows, vocabulary))
    }
    + [5, 40_000].map { count in
      Case(name: "AdamW and norm of \(count)") { trial in
        let device = trial.device
        let (w, g) = (try trial.floats(1, count), try trial.floats(1, count))
        let (m, v) = (try trial.floats(1, count, scale: 0.1), try trial.empty(1, count, .float32))
        try trial.fill(v, trial.values(count).map { abs($0) * 0.01 })
        trial.record("squared norm", try device.squaredNorm(g), bound: Bounds.float)
        try device.adamW(
          parameters: w, gradients: g, firstMoment: m, secondMoment: v,
          AdamWStep(
            learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, gradientScale: 0.7, step: 3))
        try trial.record("parameters", w, bound: Bounds.float)
        try trial.record("first moment", m, bound: Bounds.float)
        try trial.record("second moment", v, bound: Bounds.float)
      }
    }

  private static func crossEntropy(_ rows: Int, _ vocabulary: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let logits = try trial.floats(rows, vocabulary, scale: 8)
      let targets = trial.integers(rows, below: vocabulary)
      let gradient = try trial.empty(rows, vocabulary)
      var losses = [Float](repeating: .nan, count: rows)
      let loss = try losses.withUnsafeMutableBufferPointer {
        try device.crossEntropy(logits, targets: targets, scale: 0.25, gradient: gradient, rowLosses: $0.baseAddress)
      }
      trial.record("loss", loss, bound: Bounds.float)
      for value in losses.prefix(3) { trial.record("row's loss", Double(value), bound: Bounds.approximate) }
      try trial.record("gradient", gradient, bound: Bounds.rounded)
    }
  }

  // MARK: Shapes of real models

  private static let largeCases: [Case] = [
    attention(9, 3, 64, [700, 1, 323, 1024], isLarge: true),
    attention(40, 10, 128, [1024], isLarge: true),
    attention(6, 2, 128, [512, 512], isLarge: true),
    attention(4, 4, 64, [256, 256, 256], isLarge: true),
    attention(8, 2, 96, [513], isLarge: true),
    attention(8, 2, 128, [900, 124], window: 256, isLarge: true),
    largeLinear(LinearShape(rows: 512, inputs: 576, outputs: [576, 192, 192], ranks: [16, 16, 16])),
    largeLinear(LinearShape(rows: 512, inputs: 1024, outputs: [3072, 3072], ranks: [16, 16])),
    largeLinear(LinearShape(rows: 500, inputs: 1536, outputs: [576], ranks: [16], accumulate: true, floatOutput: true)),
    Case(name: "RMSNorm 300 × 5120", isLarge: true, run: norm(300, 5120, 0)),
    Case(name: "SwiGLU 256 × 17920", isLarge: true, run: swiGLU(256, 17_920, 0)),
    Case(name: "cross-entropy 64 × 100352", isLarge: true, run: crossEntropy(64, 100_352)),
  ]

  private static func largeLinear(_ shape: LinearShape) -> Case {
    var result = linear(shape)
    result.isLarge = true
    return result
  }
}
