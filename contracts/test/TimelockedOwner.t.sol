// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {Governed} from "../src/Governed.sol";
import {IAppAuthBasicManagement} from "../src/IAppAuthBasicManagement.sol";
import {IAppAuthBatches} from "../src/IAppAuthBatches.sol";
import {IKmsAuthBatches} from "../src/IKmsAuthBatches.sol";
import {IKmsAuthManagement} from "../src/IKmsAuthManagement.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {TimelockedOwner} from "../src/TimelockedOwner.sol";
import {VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";

/// @dev Loosening waits, tightening does not.
contract TimelockedOwnerTest is Fixture {
    uint256 private constant DELAY = 2 days;
    address private constant PROPOSER = address(0x9A);

    TimelockedOwner private timelock;

    function setUp() public override {
        super.setUp();
        address[] memory proposers = new address[](1);
        proposers[0] = PROPOSER;
        timelock = new TimelockedOwner(DELAY, proposers, new address[](1));
        VM.prank(TENANT);
        app.transferOwnership(address(timelock));
        VM.prank(PROPOSER);
        timelock.acceptOwnership(address(app));
        VM.prank(OPERATOR);
        kms.transferOwnership(address(timelock));
        VM.prank(PROPOSER);
        timelock.acceptOwnership(address(kms));
    }

    function testItOwns() public view {
        VM.assertEq(app.owner(), address(timelock), "owner of the app");
        VM.assertEq(kms.owner(), address(timelock), "owner of the registry");
        VM.assertEq(timelock.getMinDelay(), DELAY, "delay");
    }

    function testAnAdditionWaits() public {
        bytes memory call = abi.encodeCall(AppAuth.addComposeHash, (OTHER));
        VM.expectRevert(abi.encodeWithSelector(TimelockedOwner.MustBeScheduled.selector));
        VM.prank(PROPOSER);
        timelock.tighten(address(app), call);

        VM.prank(PROPOSER);
        timelock.schedule(address(app), 0, call, 0, 0, DELAY);
        VM.warp(block.timestamp + DELAY - 1);
        VM.expectRevert();
        timelock.execute(address(app), 0, call, 0, 0);
        VM.assertFalse(app.allowedComposeHashes(OTHER), "too early");

        VM.warp(block.timestamp + 1);
        VM.prank(STRANGER);
        timelock.execute(address(app), 0, call, 0, 0);
        VM.assertTrue(app.allowedComposeHashes(OTHER), "after the delay");
    }

    function testNobodySchedulesForSooner() public {
        VM.expectRevert(abi.encodeWithSelector(TimelockController.TimelockInsufficientDelay.selector, DELAY - 1, DELAY));
        VM.prank(PROPOSER);
        timelock.schedule(address(app), 0, abi.encodeCall(AppAuth.addComposeHash, (OTHER)), 0, 0, DELAY - 1);
    }

    function testRemovalsDoNotWait() public {
        bytes memory call = abi.encodeCall(AppAuth.removeComposeHash, (COMPOSE));
        VM.expectEmit(address(timelock));
        emit TimelockedOwner.Tightened(PROPOSER, address(app), call);
        VM.prank(PROPOSER);
        timelock.tighten(address(app), call);
        assertRefused(kms, boot(), "Compose hash not allowed");
    }

    function testEverythingThatTightens() public {
        bytes32[] memory none = new bytes32[](0);
        bytes[7] memory ofKms = [
            abi.encodeCall(KmsAuth.removeOsImageHash, (IMAGE)),
            abi.encodeCall(IKmsAuthManagement.removeOsImageHashes, (none)),
            abi.encodeCall(KmsAuth.removeKmsAggregatedMr, (MEASUREMENT)),
            abi.encodeCall(KmsAuth.removeKmsDevice, (DEVICE)),
            abi.encodeCall(IKmsAuthBatches.removeKmsAggregatedMrs, (none)),
            abi.encodeCall(IKmsAuthBatches.removeKmsDevices, (none)),
            abi.encodeCall(IKmsAuthManagement.deregisterApp, (address(app)))
        ];
        bytes[7] memory ofApp = [
            abi.encodeCall(AppAuth.removeComposeHash, (COMPOSE)),
            abi.encodeCall(IAppAuthBatches.removeComposeHashes, (none)),
            abi.encodeCall(AppAuth.removeDevice, (DEVICE)),
            abi.encodeCall(IAppAuthBatches.removeDevices, (none)),
            abi.encodeCall(AppAuth.setAllowAnyDevice, (false)),
            abi.encodeCall(AppAuth.setRequireTcbUpToDate, (true)),
            abi.encodeCall(Governed.pause, ())
        ];
        for (uint256 i = 0; i < ofKms.length; i++) {
            VM.prank(PROPOSER);
            timelock.tighten(address(kms), ofKms[i]);
        }
        for (uint256 i = 0; i < ofApp.length; i++) {
            VM.prank(PROPOSER);
            timelock.tighten(address(app), ofApp[i]);
        }
        VM.assertTrue(app.paused() && kms.deregisteredApps(address(app)), "done");
    }

    function testNothingThatLoosensIsMadeAtOnce() public {
        bytes32[] memory none = new bytes32[](0);
        bytes[16] memory calls = [
            abi.encodeCall(AppAuth.addComposeHash, (OTHER)),
            abi.encodeCall(IAppAuthBatches.addComposeHashes, (none)),
            abi.encodeCall(IAppAuthBasicManagement.addDevice, (OTHER)),
            abi.encodeCall(IAppAuthBatches.addDevices, (none)),
            abi.encodeCall(AppAuth.setAllowAnyDevice, (true)),
            abi.encodeCall(AppAuth.setRequireTcbUpToDate, (false)),
            abi.encodeCall(Governed.unpause, ()),
            abi.encodeCall(Ownable2StepUpgradeable.transferOwnership, (STRANGER)),
            abi.encodeCall(UUPSUpgradeable.upgradeToAndCall, (address(appImplementation), "")),
            abi.encodeWithSignature("renounceOwnership()"),
            abi.encodeCall(KmsAuth.registerApp, (STRANGER)),
            abi.encodeCall(IKmsAuthBatches.addKmsAggregatedMrs, (none)),
            abi.encodeCall(IKmsAuthBatches.addKmsDevices, (none)),
            abi.encodePacked(AppAuth.setAllowAnyDevice.selector, uint256(2)),
            abi.encodePacked(AppAuth.setRequireTcbUpToDate.selector),
            bytes("")
        ];
        for (uint256 i = 0; i < calls.length; i++) {
            VM.assertFalse(timelock.tightens(calls[i]), "taken for tightening");
            VM.expectRevert(abi.encodeWithSelector(TimelockedOwner.MustBeScheduled.selector));
            VM.prank(PROPOSER);
            timelock.tighten(address(app), calls[i]);
        }
    }

    /// @dev Whatever is called at once, with whatever argument, what was refused before is refused after.
    function testFuzz_tighteningAllowsNothing(uint256 choice, bytes32 argument) public {
        bytes4[10] memory selectors = [
            AppAuth.addComposeHash.selector,
            AppAuth.removeComposeHash.selector,
            AppAuth.addDevice.selector,
            AppAuth.removeDevice.selector,
            AppAuth.setAllowAnyDevice.selector,
            AppAuth.setRequireTcbUpToDate.selector,
            Governed.pause.selector,
            Governed.unpause.selector,
            Ownable2StepUpgradeable.transferOwnership.selector,
            KmsAuth.addOsImageHash.selector
        ];
        bytes32 value = choice % 3 == 0 ? argument : bytes32(uint256(argument) % 3);
        bytes memory data = abi.encodePacked(selectors[choice % selectors.length], value);
        Verdicts memory before = verdicts(value);
        VM.prank(PROPOSER);
        (bool done,) = address(timelock).call(abi.encodeCall(TimelockedOwner.tighten, (address(app), data)));
        Verdicts memory afterwards = verdicts(value);
        VM.assertTrue(before.composeHash || !afterwards.composeHash, "a compose hash");
        VM.assertTrue(before.device || !afterwards.device, "a device");
        VM.assertTrue(app.requireTcbUpToDate() && app.owner() == address(timelock), "the rest");
        VM.assertTrue(timelock.tightens(data) || !done, "the call went through");
    }

    struct Verdicts {
        bool composeHash;
        bool device;
    }

    function testFuzz_onlyItsOfficersAct(address caller) public {
        VM.assume(caller != PROPOSER);
        bytes memory call = abi.encodeCall(AppAuth.removeComposeHash, (COMPOSE));
        VM.expectRevert(missing(caller, timelock.CANCELLER_ROLE()));
        VM.prank(caller);
        timelock.tighten(address(app), call);
        VM.expectRevert(missing(caller, timelock.PROPOSER_ROLE()));
        VM.prank(caller);
        timelock.schedule(address(app), 0, call, 0, 0, DELAY);
        VM.expectRevert(missing(caller, timelock.PROPOSER_ROLE()));
        VM.prank(caller);
        timelock.acceptOwnership(address(app));
        assertAllowed(kms, boot());
    }

    function testACancelledChangeNeverComes() public {
        bytes memory call = abi.encodeCall(AppAuth.addComposeHash, (OTHER));
        VM.prank(PROPOSER);
        timelock.schedule(address(app), 0, call, 0, 0, DELAY);
        bytes32 id = timelock.hashOperation(address(app), 0, call, 0, 0);
        VM.prank(PROPOSER);
        timelock.cancel(id);
        VM.warp(block.timestamp + 2 * DELAY);
        VM.expectRevert();
        timelock.execute(address(app), 0, call, 0, 0);
    }

    function testNobodyAdministersIt() public view {
        VM.assertFalse(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), PROPOSER), "proposer");
        VM.assertFalse(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(this)), "deployer");
        VM.assertTrue(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(timelock)), "itself");
    }

    function verdicts(bytes32 value) private view returns (Verdicts memory both) {
        both.composeHash = app.allowedComposeHashes(value);
        both.device = app.allowAnyDevice() || app.allowedDeviceIds(value);
    }

    function missing(address caller, bytes32 role) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, caller, role);
    }
}
