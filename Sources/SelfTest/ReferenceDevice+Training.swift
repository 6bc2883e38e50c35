import Tensors

#if canImport(Glibc)
  import Glibc
#endif

// What training asks for beyond the model's passes, as its definitions read.
extension ReferenceDevice {
  func addColumnSums(of dy: Tensor, times z: Tensor?, rowScales: Tensor?, to sums: Tensor) throws {
    each(sums) { _, column in
      get(sums, 0, column)
        + sum(dy.rows) { row in
          get(dy, row, column) * (z.map { get($0, row, column) } ?? 1) * (rowScales.map { get($0, 0, row) } ?? 1)
        }
    }
  }
  func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor, accumulate: Bool) throws {
    each(y) { row, column in
      get(x, row, column) * get(factors, 0, column) + (accumulate ? get(y, row, column) : 0)
    }
  }
  func adaptedRowNorms(
    squaredNorms: Tensor, scaledB: Tensor, products: Tensor, magnitudes: Tensor, inverses: Tensor, factors: Tensor
  ) throws {
    for o in 0..<scaledB.rows {
      let squares = get(squaredNorms, 0, o) + sum(scaledB.columns) { get(scaledB, o, $0) * get(products, $0, o) }
      let inverse = squares > 0 ? 1 / squares.squareRoot() : 0
      set(inverses, 0, o, inverse)
      set(factors, 0, o, get(magnitudes, 0, o) * inverse)
    }
  }
  func addWeightGradient(_ dy: Tensor, _ x: Tensor, to gradient: Tensor) throws {
    each(gradient) { output, input in
      get(gradient, output, input) + sum(dy.rows) { get(dy, $0, output) * get(x, $0, input) }
    }
  }
  func replace(_ matrix: any FrozenMatrix, with values: Tensor) throws {
    guard let matrix = matrix as? Matrix else { return }
    for row in 0..<matrix.outputs {
      for column in 0..<matrix.inputs { matrix.values[row * matrix.inputs + column] = Float(get(values, row, column)) }
    }
  }
  func scatterAdd(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    for (index, row) in rows.enumerated() {
      for column in 0..<source.columns { add(destination, Int(row), column, get(source, index, column)) }
    }
  }
  func addNoise(to x: Tensor, bound: Float, seed: UInt64, stream: UInt64) throws {
    each(x) { row, column in
      let index = UInt64(row * x.columns + column)
      let random = Self.philox(index / 4, stream, seed)[Int(index % 4)]
      return get(x, row, column) + (Double(random >> 8) / 8_388_608 - 1) * Double(bound)
    }
  }
  func splitDropout(_ x: Tensor, _ pair: LowRankPair, _ key: DropoutKey, kept: Tensor, rest: Tensor) throws {
    each(kept) { get(x, $0, $1) * keep($0, $1, x.columns, pair, key) }
    each(rest) { get(x, $0, $1) * (1 - keep($0, $1, x.columns, pair, key)) }
  }
  func joinDropout(
    kept: Tensor, rest: Tensor, _ pair: LowRankPair, _ key: DropoutKey, into dx: Tensor, accumulate: Bool
  ) throws {
    each(dx) { row, column in
      let k = keep(row, column, dx.columns, pair, key)
      return (accumulate ? get(dx, row, column) : 0) + k * get(kept, row, column) + (1 - k) * get(rest, row, column)
    }
  }
  func mix(_ x: Tensor, into average: Tensor, keep: Float) throws {
    each(average) { Double(keep) * get(average, $0, $1) + (1 - Double(keep)) * get(x, $0, $1) }
  }
  func adamW8bit(parameters: Tensor, gradients: Tensor, _ moments: QuantizedMoments, _ step: AdamWStep) throws {
    let length = QuantizedMoments.blockLength
    func code(_ tensor: Tensor, _ index: Int) -> UnsafeMutableRawPointer? {
      UnsafeMutableRawPointer(bitPattern: tensor.address + UInt(index))
    }
    func decoded(_ codes: Tensor, _ scales: Tensor, _ map: Tensor, _ index: Int) -> Double {
      get(map, 0, Int(code(codes, index)?.load(as: UInt8.self) ?? 0)) * get(scales, 0, index / length)
    }
    func encode(_ values: [Double], _ first: Int, _ codes: Tensor, _ scales: Tensor, _ map: Tensor) {
      let largest = values.reduce(0) { max($0, abs($1)) }
      set(scales, 0, first / length, largest)
      for (offset, value) in values.enumerated() {
        let x = largest > 0 ? value / largest : 0
        let nearest = (0..<256).min { abs(get(map, 0, $0) - x) < abs(get(map, 0, $1) - x) } ?? 0
        code(codes, first + offset)?.storeBytes(of: UInt8(nearest), as: UInt8.self)
      }
    }
    let rate = Double(step.learningRate)
    let (correction1, correction2) = (1 - pow(step.beta1, Double(step.step)), 1 - pow(step.beta2, Double(step.step)))
    for first in stride(from: 0, to: parameters.count, by: length) {
      var (firsts, seconds): ([Double], [Double]) = ([], [])
      for i in first..<min(first + length, parameters.count) {
        let g = get(gradients, 0, i) * Double(step.gradientScale)
        let m =
          step.beta1 * decoded(moments.firstCodes, moments.firstScales, moments.firstMap, i) + (1 - step.beta1) * g
        let v =
          step.beta2 * decoded(moments.secondCodes, moments.secondScales, moments.secondMap, i)
          + (1 - step.beta2) * g * g
        firsts.append(m)
        seconds.append(v)
        let w = get(parameters, 0, i) * (1 - rate * Double(step.weightDecay))
        let root = (v / correction2).squareRoot() + Double(step.epsilon)
        set(parameters, 0, i, w - rate * m / correction1 / root)
      }
      encode(firsts, first, moments.firstCodes, moments.firstScales, moments.firstMap)
      encode(seconds, first, moments.secondCodes, moments.secondScales, moments.secondMap)
    }
  }
}
