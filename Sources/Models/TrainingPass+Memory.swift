import Tensors

extension TrainingPass {
  /// One layer's places; see ``BlockMemory``.
  struct MemorySlots {
    var x, xMiddle, attentionRstd, mlpRstd, q, k, v, attended, logSumExp, gate, up: ArenaPlan.Slot
    var headNorms: (q: ArenaPlan.Slot, k: ArenaPlan.Slot, queryRstd: ArenaPlan.Slot, keyRstd: ArenaPlan.Slot)?
    var lowRank: [TargetModule: ArenaPlan.Slot] = [:]
    var unscaled: [TargetModule: ArenaPlan.Slot] = [:]

    /// Nothing but `nothing` everywhere.
    init(_ nothing: ArenaPlan.Slot) {
      (x, xMiddle, attentionRstd, mlpRstd) = (nothing, nothing, nothing, nothing)
      (q, k, v, attended, logSumExp, gate, up) = (nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    }

    /// What a layer leaves in memory of its own at `level`, but for its input.
    func kept(at level: LayerMemory) -> [ArenaPlan.Slot] {
      var slots = level >= .attention ? [attended, logSumExp] : []
      func modules(_ modules: [TargetModule]) -> [ArenaPlan.Slot] {
        modules.compactMap { lowRank[$0] } + modules.compactMap { unscaled[$0] }
      }
      if level >= .projections {
        slots += [x, xMiddle, attentionRstd, mlpRstd, q, k, v]
        if let headNorms { slots += [headNorms.q, headNorms.k, headNorms.queryRstd, headNorms.keyRstd] }
        slots += modules([.query, .key, .value, .output])
      }
      if level >= .everything { slots += [gate, up] + modules([.gate, .up, .down]) }
      return slots
    }
  }

  /// Reserves layers' memory: what is kept for as many rows as a batch has, what is computed again for as many as a tile.
  struct Maker {
    private let shape: ModelShape
    private let device: any Device
    private let rows: Int
    private let tile: Int
    private let hasMagnitudes: Bool
    /// Whether the gradients of q, k and v take their places.
    ///
    /// That costs a copy: it is done where a batch goes through in tiles, which says that memory is short; and not where heads have
    /// norms, whose inputs lie beside v while attention's gradients do not.
    let replacesHeads: Bool
    private let whole: Groups
    private let tiles: Groups

    init(
      _ shape: ModelShape, _ device: any Device, rows: Int, tile: Int, ranks: [TargetModule: Int], hasMagnitudes: Bool,
      replacesHeads: Bool
    ) {
      self.shape = shape
      self.device = device
      self.rows = rows
      self.tile = tile
      self.hasMagnitudes = hasMagnitudes
      self.replacesHeads = replacesHeads
      whole = Groups(device, rows: rows, ranks: ranks)
      tiles = Groups(device, rows: tile, ranks: ranks)
    }

    /// Places that serve one layer after the other, for what layers do not keep that keep `least` or more; `holdsInput`:
    /// the norms' copy of the residual stream too.
    func shared(for least: LayerMemory, holdsInput: Bool = true, in plan: inout ArenaPlan) -> MemorySlots {
      let nothing = plan.reserve(rows: 0, columns: 1, device.computeType)
      var slots = MemorySlots(nothing)
      func room(_ modules: [[TargetModule]], _ groups: Groups) {
        slots.lowRank.merge(groups.reserveLowRank(modules, in: &plan)) { $1 }
        if hasMagnitudes { slots.unscaled.merge(groups.reserveUnscaled(modules, shape, in: &plan)) { $1 } }
      }
      if least < .projections {
        if holdsInput { slots.x = operand(shape.hidden, in: &plan) }
        slots.xMiddle = plan.reserve(rows: tile, columns: shape.hidden, device.computeType)
        slots.attentionRstd = statistics(1, in: &plan)
        slots.mlpRstd = plan.reserve(rows: 1, columns: tile, .float32)
        (slots.q, slots.k, slots.v, slots.headNorms) = heads(in: &plan)
        // Needed until attention is over; the others are of a tile.
        room([[.query, .key, .value]], whole)
        room([[.output]], tiles)
      }
      if least < .attention { (slots.attended, slots.logSumExp) = attention(in: &plan) }
      if least < .everything {
        (slots.gate, slots.up) = gateUp(tiles, in: &plan)
        room([[.gate, .up], [.down]], tiles)
      }
      return slots
    }

    /// Places of its own for what a layer keeps at `level`, but for its input, and those of `shared` for the rest.
    func memory(keeping level: LayerMemory, sharing shared: MemorySlots?, in plan: inout ArenaPlan) -> MemorySlots {
      var slots = shared ?? MemorySlots(plan.reserve(rows: 0, columns: 1, device.computeType))
      func keep(_ modules: [[TargetModule]]) {
        slots.lowRank.merge(whole.reserveLowRank(modules, in: &plan)) { $1 }
        if hasMagnitudes { slots.unscaled.merge(whole.reserveUnscaled(modules, shape, in: &plan)) { $1 } }
      }
      if level >= .attention { (slots.attended, slots.logSumExp) = attention(in: &plan) }
      if level >= .projections {
        slots.x = operand(shape.hidden, in: &plan)
        slots.xMiddle = operand(shape.hidden, in: &plan)
        slots.attentionRstd = statistics(1, in: &plan)
        slots.mlpRstd = statistics(1, in: &plan)
        (slots.q, slots.k, slots.v, slots.headNorms) = heads(in: &plan)
        keep([[.query, .key, .value], [.output]])
      }
      if level >= .everything {
        (slots.gate, slots.up) = gateUp(whole, in: &plan)
        keep([[.gate, .up], [.down]])
      }
      return slots
    }

    /// A place for the residual stream before a layer.
    func input(_ dtype: DType, in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      plan.reserve(rows: rows, columns: shape.hidden, dtype)
    }

    private func operand(_ columns: Int, in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      plan.reserve(rows: rows, columns: columns, device.computeType)
    }

    private func statistics(_ count: Int, in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      plan.reserve(rows: count, columns: rows, .float32)
    }

    /// q, k, v and what norms of heads keep.
    private func heads(
      in plan: inout ArenaPlan
    ) -> (
      ArenaPlan.Slot, ArenaPlan.Slot, ArenaPlan.Slot,
      (q: ArenaPlan.Slot, k: ArenaPlan.Slot, queryRstd: ArenaPlan.Slot, keyRstd: ArenaPlan.Slot)?
    ) {
      // What the projections to q, k and v write.
      let projected = whole.reserve(
        [shape.queryWidth, shape.keyValueWidth, shape.keyValueWidth],
        tail: replacesHeads ? [.query, .key, .value] : nil, in: &plan)
      guard shape.normalizesHeads else { return (projected[0], projected[1], projected[2], nil) }
      let norms = (
        q: projected[0], k: projected[1], queryRstd: plan.reserve(rows: rows, columns: shape.heads, .float32),
        keyRstd: plan.reserve(rows: rows, columns: shape.keyValueHeads, .float32)
      )
      return (
        operand(shape.queryWidth, in: &plan), operand(shape.keyValueWidth, in: &plan), projected[2], norms
      )
    }

    /// Attention's output and statistics.
    private func attention(in plan: inout ArenaPlan) -> (ArenaPlan.Slot, ArenaPlan.Slot) {
      (whole.reserve([shape.queryWidth], tail: [.output], in: &plan)[0], statistics(shape.heads, in: &plan))
    }

    /// The backward pass turns them into their gradients, which a product reads.
    private func gateUp(_ groups: Groups, in plan: inout ArenaPlan) -> (ArenaPlan.Slot, ArenaPlan.Slot) {
      let slots = groups.reserve([shape.intermediate, shape.intermediate], tail: [.gate, .up], in: &plan)
      return (slots[0], slots[1])
    }
  }

  /// How the tensors of a group of projections lie: each by itself, or side by side with room behind them where the device
  /// multiplies a group as one.
  struct Groups {
    /// Projections that read the same input.
    static let all: [[TargetModule]] = [[.query, .key, .value], [.output], [.gate, .up], [.down]]
    private let device: any Device
    private let rows: Int
    private let ranks: [TargetModule: Int]

    init(_ device: any Device, rows: Int, ranks: [TargetModule: Int]) {
      self.device = device
      self.rows = rows
      self.ranks = ranks
    }

    /// The room that the device wants behind a tensor which the group reads or whose gradient it is.
    func tail(_ group: [TargetModule]) -> Int? { device.operandTail(ranks: group.map { ranks[$0] ?? 0 }) }

    /// Places for tensors of a group; `tail`: the group whose product reads them, nil where none does.
    func reserve(_ columns: [Int], tail group: [TargetModule]?, in plan: inout ArenaPlan) -> [ArenaPlan.Slot] {
      reserve(columns, room: group.map { tail($0) } ?? tail([]), in: &plan)
    }

    /// A place for a tensor that several groups read.
    func reserve(_ columns: Int, tailOfAny groups: [[TargetModule]], in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      reserve([columns], room: groups.compactMap { tail($0) }.max(), in: &plan)[0]
    }

    private func reserve(_ columns: [Int], room: Int?, in plan: inout ArenaPlan) -> [ArenaPlan.Slot] {
      guard let room else { return columns.map { plan.reserve(rows: rows, columns: $0, device.computeType) } }
      return plan.reserve(rows: rows, sideBySide: columns, device.computeType, tail: room)
    }

    /// Places for the outputs of some groups' adapted modules before their magnitudes.
    func reserveUnscaled(
      _ groups: [[TargetModule]], _ shape: ModelShape, in plan: inout ArenaPlan
    ) -> [TargetModule: ArenaPlan.Slot] {
      var slots: [TargetModule: ArenaPlan.Slot] = [:]
      for group in groups {
        let modules = group.filter { ranks[$0] != nil }
        for (module, place) in zip(modules, reserve(modules.map { shape.outputs(of: $0) }, tail: nil, in: &plan)) {
          slots[module] = place
        }
      }
      return slots
    }

    /// Places for what the low-rank pairs of some groups keep.
    func reserveLowRank(_ groups: [[TargetModule]], in plan: inout ArenaPlan) -> [TargetModule: ArenaPlan.Slot] {
      var slots: [TargetModule: ArenaPlan.Slot] = [:]
      for group in groups {
        let modules = group.filter { ranks[$0] != nil }
        let places = reserve(modules.map { ranks[$0] ?? 0 }, tail: nil, in: &plan)
        for (module, place) in zip(modules, places) { slots[module] = place }
      }
      return slots
    }
  }
}
