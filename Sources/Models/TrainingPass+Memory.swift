import Tensors

extension TrainingPass {
  /// One layer's places; see ``BlockMemory``.
  struct MemorySlots {
    var x, xMiddle, attentionRstd, mlpRstd, q, k, v, attended, logSumExp, gate, up: ArenaPlan.Slot
    var headNorms: (q: ArenaPlan.Slot, k: ArenaPlan.Slot, queryRstd: ArenaPlan.Slot, keyRstd: ArenaPlan.Slot)?
    var lowRank: [TargetModule: ArenaPlan.Slot]
    var unscaled: [TargetModule: ArenaPlan.Slot] = [:]

    /// Places of a layer's own for everything.
    init(
      _ shape: ModelShape, _ device: any Device, rows: Int, ranks: [TargetModule: Int], hasMagnitudes: Bool,
      in plan: inout ArenaPlan
    ) {
      let maker = Maker(shape, device, rows: rows, ranks: ranks)
      x = maker.operand(shape.hidden, in: &plan)
      xMiddle = maker.operand(shape.hidden, in: &plan)
      attentionRstd = maker.statistics(1, in: &plan)
      mlpRstd = maker.statistics(1, in: &plan)
      (q, k, v, headNorms) = maker.heads(in: &plan)
      (attended, logSumExp) = maker.attention(in: &plan)
      (gate, up) = maker.gateUp(in: &plan)
      lowRank = maker.groups.reserveLowRank(Groups.all, in: &plan)
      if hasMagnitudes { unscaled = maker.groups.reserveUnscaled(Groups.all, shape, in: &plan) }
    }

    /// Places of its own for what a layer keeps at `level`, and those of `shared` for the rest.
    init(
      _ shape: ModelShape, _ device: any Device, rows: Int, ranks: [TargetModule: Int], keeping level: LayerMemory,
      sharing shared: MemorySlots, in plan: inout ArenaPlan
    ) {
      self = shared
      let maker = Maker(shape, device, rows: rows, ranks: ranks)
      if level >= .attention { (attended, logSumExp) = maker.attention(in: &plan) }
      if level >= .projections {
        x = maker.operand(shape.hidden, in: &plan)
        xMiddle = maker.operand(shape.hidden, in: &plan)
        attentionRstd = maker.statistics(1, in: &plan)
        mlpRstd = maker.statistics(1, in: &plan)
        (q, k, v, headNorms) = maker.heads(in: &plan)
        let own: [[TargetModule]] = [[.query, .key, .value], [.output]]
        lowRank.merge(maker.groups.reserveLowRank(own, in: &plan)) { $1 }
        if !unscaled.isEmpty { unscaled.merge(maker.groups.reserveUnscaled(own, shape, in: &plan)) { $1 } }
      }
      if level >= .everything {
        (gate, up) = maker.gateUp(in: &plan)
        let own: [[TargetModule]] = [[.gate, .up], [.down]]
        lowRank.merge(maker.groups.reserveLowRank(own, in: &plan)) { $1 }
        if !unscaled.isEmpty { unscaled.merge(maker.groups.reserveUnscaled(own, shape, in: &plan)) { $1 } }
      }
    }
  }

  /// Reserves the parts of a layer's memory.
  private struct Maker {
    let shape: ModelShape
    let device: any Device
    let rows: Int
    let groups: Groups

    init(_ shape: ModelShape, _ device: any Device, rows: Int, ranks: [TargetModule: Int]) {
      self.shape = shape
      self.device = device
      self.rows = rows
      groups = Groups(device, rows: rows, ranks: ranks)
    }

    func operand(_ columns: Int, in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      plan.reserve(rows: rows, columns: columns, device.computeType)
    }

    func statistics(_ count: Int, in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      plan.reserve(rows: count, columns: rows, .float32)
    }

    /// q, k, v and what norms of heads keep.
    func heads(
      in plan: inout ArenaPlan
    ) -> (
      ArenaPlan.Slot, ArenaPlan.Slot, ArenaPlan.Slot,
      (q: ArenaPlan.Slot, k: ArenaPlan.Slot, queryRstd: ArenaPlan.Slot, keyRstd: ArenaPlan.Slot)?
    ) {
      // What the projections to q, k and v write.
      let projected = groups.reserve(
        [shape.queryWidth, shape.keyValueWidth, shape.keyValueWidth], tail: nil, in: &plan)
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
    func attention(in plan: inout ArenaPlan) -> (ArenaPlan.Slot, ArenaPlan.Slot) {
      (groups.reserve([shape.queryWidth], tail: [.output], in: &plan)[0], statistics(shape.heads, in: &plan))
    }

    /// The backward pass turns them into their gradients, which a product reads.
    func gateUp(in plan: inout ArenaPlan) -> (ArenaPlan.Slot, ArenaPlan.Slot) {
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
