import JSONValues
import Models
import TestSupport
import Testing

@testable import Training

/// Held-out data, early stopping, and answers on the way.
@Suite final class EvaluationTests: TinyRuns {
  @Test func aShareIsHeldOutAndEvaluated() throws {
    let share = try HeldOutShare(of: 11, share: 0.25, seed: 7)
    #expect(share.heldOut.count == 3 && (share.heldOut + share.training).sorted() == Array(0..<11))
    #expect(try HeldOutShare(of: 11, share: 0.25, seed: 7) == share)
    #expect(try HeldOutShare(of: 11, share: 0.25, seed: 8) != share)
    #expect(try HeldOutShare(of: 2, share: 0.99, seed: 1).training.count == 1)
    #expect(try HeldOutShare(of: 2, share: 0.01, seed: 1).heldOut.count == 1)
    #expect(throws: TrainingError.self) { try HeldOutShare(of: 1, share: 0.5, seed: 1) }

    let shared = configuration {
      $0.evalShare = 0.25
      $0.maxSteps = nil
      $0.epochs = 1
    }
    let run = try trainer(shared, "run")
    #expect(run.heldOutCount == 3 && run.totalSteps == 2)
    let data = try data()
    let model = try self.model()
    let heldOut = try data.batch(of: try HeldOutShare(of: 11, share: 0.25, seed: 3407).heldOut)
    let expected = try model.evaluate(heldOut) / Double(heldOut.trainedTokenCount)
    let summary = try run.run()
    #expect(abs((summary.evalBefore ?? 0) / expected - 1) < 1e-5)
    // One epoch sees every other example once.
    #expect(summary.tokens == data.counts.tokens - heldOut.tokens.count)
  }

  /// What is held out is never trained; of the rest an epoch sees each sample as often as its file's weight says.
  @Test(arguments: [false, true]) func aShareOfWeightedFilesIsHeldOut(_ isPacked: Bool) throws {
    func file(_ name: String, _ count: Int) throws -> String {
      try folder.write(
        name, (0..<count).map { "{\"text\": \"\(name) \(String(repeating: "x", count: $0))\"}\n" }.joined())
    }
    let (often, seldom) = (try file("often", 10), try file("seldom", 20))
    let data = try TokenizedDataset(
      Dataset(paths: [often + "@2", seldom + "@0.5"]), encoder: ByteEncoder(), options: .init(maxSequenceLength: 64))
    let share = try HeldOutShare(of: data.count, share: 0.3, seed: 3407)
    #expect(share.heldOut.count == 9)
    var source = BatchSource(
      data, chosen: share.training,
      options: .init(batchSize: 2, gradientAccumulation: 3, maxSequenceLength: 64, packing: isPacked))
    let texts = try (0..<data.count).map { try data.tokens(ofExample: $0).ids }
    let heldOut = Set(share.heldOut.map { texts[$0] })
    let ofOften = Set(share.training.filter { $0 < 10 }.map { texts[$0] })
    let ofSeldom = Set(share.training.filter { $0 >= 10 }.map { texts[$0] })
    var step = 0
    for epoch in 0..<3 {
      var seen: [[Int32]: Int] = [:]
      while source.schedule.position(ofStep: step).epoch == epoch {
        for batch in try source.microBatches(ofStep: step) {
          for document in batch.documents { seen[Array(batch.tokens[document]), default: 0] += 1 }
        }
        step += 1
      }
      #expect(heldOut.isDisjoint(with: seen.keys), "epoch \(epoch)")
      #expect(ofOften.allSatisfy { seen[$0] == 2 })
      #expect(ofSeldom.count { seen[$0] == 1 } == Int((0.5 * Double(ofSeldom.count)).rounded()))
      #expect(ofSeldom.allSatisfy { seen[$0, default: 0] <= 1 })
    }
  }

  @Test func aRunEndsWhenTheHeldOutLossNoLongerFalls() throws {
    let change: (inout TrainingConfiguration) -> Void = {
      $0.maxSteps = 400
      $0.learningRate = 3e-2
      $0.scheduler = .constant
      $0.evalSteps = 3
      $0.earlyStoppingPatience = 3
      $0.saveSteps = 2
      $0.saveLimit = 2
      $0.loadBestAtEnd = true
    }
    // What is learned has nothing to do with what is held out, so the loss rises soon.
    let (learned, heldOut) = (try data("{\"text\": \"aaaaaaaa\"}\n"), try data("{\"text\": \"zyxwv qrst\"}\n"))
    let summary = try trainer(configuration(change), "run", data: learned, evalData: heldOut).run()
    let best = try #require(summary.best)
    #expect(summary.end == .earlyStopping && !summary.stoppedEarly && summary.steps == best.step + 9)
    let store = CheckpointStore(runPath: "\(folder.path)/run", limit: 2)
    #expect(store.bestStep == best.step)
    // The best one and the last two, of which the end is one.
    let steps = store.entries.map(\.step)
    #expect(steps.count == 3 && steps.first == best.step && steps.last == summary.steps)
    for entry in store.entries { try store.verify(entry) }
    // The folder's adapter is the best one.
    let model = try self.model()
    try model.loadAdapter(from: summary.adapterPath)
    let batch = try heldOut.batch(of: 0..<1)
    #expect(abs(try model.evaluate(batch) / Double(batch.trainedTokenCount) - best.loss) < 1e-6)
    // Resumed, it ends at once.
    let resumed = configuration {
      change(&$0)
      $0.resume = true
    }
    let again = try trainer(resumed, "run", data: learned, evalData: heldOut).run()
    #expect(again.end == .earlyStopping && again.steps == summary.steps)
  }

  @Test func promptsAreAnsweredOnTheWay() throws {
    let asked = configuration {
      $0.maxSteps = 5
      $0.samplePrompts = ["one", "two"]
      $0.sampleSteps = 2
      $0.sampleTokens = 9
      $0.logSteps = 100
    }
    var calls: [String] = []
    let run = try trainer(asked, "run") { prompts, limit, _ in
      #expect(limit == 9)
      return prompts.map { prompt in
        calls.append(prompt)
        return "\(prompt) \(calls.count)\n"
      }
    }
    var seen: [Int: [SampleAnswer]] = [:]
    try _ = run.run {
      seen[$0.step] = $0.samples
      return .continue
    }
    #expect(calls == Array(repeating: ["one", "two"], count: 4).flatMap(\.self))
    #expect(seen[2]?.map(\.answer) == ["one 3\n", "two 4\n"] && seen[3] == [])
    let metrics = try #require(TemporaryFolder.text(of: "\(folder.path)/run/metrics.jsonl"))
    let lines = try metrics.split(separator: "\n").map { try JSONValue.parse(String($0)) }
    #expect(lines.map { $0["step"]?.integer } == [0, 2, 4, 5])
    #expect(lines[1]["samples"]?[1]?["answer"]?.string == "two 4\n")
    #expect(lines[1]["loss"]?.double != nil)
  }
}
