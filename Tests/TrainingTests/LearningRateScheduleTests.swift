import Testing

@testable import Training

@Suite struct LearningRateScheduleTests {
  static let schedules = [
    LearningRateSchedule(shape: .linear, peak: 2e-4, warmupSteps: 5, totalSteps: 20),
    LearningRateSchedule(shape: .linear, peak: 2e-4, warmupSteps: 0, totalSteps: 20),
    LearningRateSchedule(shape: .cosine, peak: 2e-4, warmupSteps: 5, totalSteps: 20),
    LearningRateSchedule(shape: .cosine, peak: 2e-4, warmupSteps: 3, totalSteps: 20, minimumRatio: 0.1),
    LearningRateSchedule(shape: .linear, peak: 2e-4, warmupSteps: 3, totalSteps: 20, minimumRatio: 0.1),
    LearningRateSchedule(shape: .constant, peak: 2e-4, warmupSteps: 5, totalSteps: 20),
    LearningRateSchedule(shape: .constant, peak: 2e-4, warmupSteps: 0, totalSteps: 20),
    LearningRateSchedule(shape: .linear, peak: 2e-4, warmupSteps: 30, totalSteps: 20),
    LearningRateSchedule(shape: .wsd, peak: 2e-4, warmupSteps: 5, totalSteps: 20, decayRatio: 0.3),
  ]

  // Made by Tests/Golden/schedules.py.
  static let golden: [[Double]] = [
    // linear, warm-up 5, {}
    [
      0, 4e-05, 8e-05, 0.00012, 0.00016, 0.0002, 0.000186666667, 0.000173333333, 0.00016, 0.000146666667,
      0.000133333333, 0.00012, 0.000106666667, 9.33333333e-05, 8e-05, 6.66666667e-05, 5.33333333e-05, 4e-05,
      2.66666667e-05, 1.33333333e-05,
    ],
    // linear, warm-up 0, {}
    [
      0.0002, 0.00019, 0.00018, 0.00017, 0.00016, 0.00015, 0.00014, 0.00013, 0.00012, 0.00011, 0.0001, 9e-05, 8e-05,
      7e-05, 6e-05, 5e-05, 4e-05, 3e-05, 2e-05, 1e-05,
    ],
    // cosine, warm-up 5, {}
    [
      0, 4e-05, 8e-05, 0.00012, 0.00016, 0.0002, 0.00019781476, 0.000191354546, 0.000180901699, 0.000166913061,
      0.00015, 0.000130901699, 0.000110452846, 8.95471537e-05, 6.90983006e-05, 5e-05, 3.30869394e-05, 1.90983006e-05,
      8.64545424e-06, 2.18523993e-06,
    ],
    // cosine_with_min_lr, warm-up 3, {'min_lr_rate': 0.1}
    [
      0, 6.66666667e-05, 0.000133333333, 0.0002, 0.000198467579, 0.000193922501, 0.000186519542, 0.000176510803,
      0.000164237117, 0.000150116452, 0.000134629669, 0.000118304152, 0.000101695848, 8.53703309e-05, 6.9883548e-05,
      5.57628827e-05, 4.34891975e-05, 3.34804578e-05, 2.60774994e-05, 2.1532421e-05,
    ],
    // polynomial, warm-up 3, {'lr_end': 2e-05, 'power': 1.0}
    [
      0, 6.66666667e-05, 0.000133333333, 0.0002, 0.000189411765, 0.000178823529, 0.000168235294, 0.000157647059,
      0.000147058824, 0.000136470588, 0.000125882353, 0.000115294118, 0.000104705882, 9.41176471e-05, 8.35294118e-05,
      7.29411765e-05, 6.23529412e-05, 5.17647059e-05, 4.11764706e-05, 3.05882353e-05,
    ],
    // constant_with_warmup, warm-up 5, {}
    [
      0, 4e-05, 8e-05, 0.00012, 0.00016, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002,
      0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002,
    ],
    // constant, warm-up 0, {}
    [
      0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002,
      0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002,
    ],
    // linear, warm-up 30, {}
    [
      0, 6.66666667e-06, 1.33333333e-05, 2e-05, 2.66666667e-05, 3.33333333e-05, 4e-05, 4.66666667e-05,
      5.33333333e-05, 6e-05, 6.66666667e-05, 7.33333333e-05, 8e-05, 8.66666667e-05, 9.33333333e-05, 0.0001,
      0.000106666667, 0.000113333333, 0.00012, 0.000126666667,
    ],
    // warmup_stable_decay, warm-up 5, {'num_decay_steps': 6}
    [
      0, 4e-05, 8e-05, 0.00012, 0.00016, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002,
      0.0002, 0.00018660254, 0.00015, 0.0001, 5e-05, 1.33974596e-05,
    ],
  ]

  @Test(arguments: zip(schedules, golden)) func agreesWithTransformers(
    schedule: LearningRateSchedule, golden: [Double]
  ) {
    for (step, rate) in golden.enumerated() {
      #expect(abs(schedule.learningRate(atStep: step) - rate) <= 1e-8 * 2e-4, "step \(step)")
    }
  }

  @Test func staysInBoundsOutsideTheRun() {
    for schedule in Self.schedules {
      for step in [-5, 0, 20, 21, 1000] {
        #expect(schedule.factor(atStep: step) >= 0 && schedule.factor(atStep: step) <= 1)
      }
    }
    let none = LearningRateSchedule(shape: .cosine, peak: 1, warmupSteps: 0, totalSteps: 0)
    #expect(none.factor(atStep: 0) == 1)
  }

  @Test func warmupOfAShareOfTheRunIsRoundedUp() {
    #expect(LearningRateSchedule.warmupSteps(ratio: 0.1, totalSteps: 101) == 11)
    #expect(LearningRateSchedule.warmupSteps(ratio: 0, totalSteps: 101) == 0)
    #expect(LearningRateSchedule.warmupSteps(ratio: .nan, totalSteps: 101) <= 101)
  }
}
