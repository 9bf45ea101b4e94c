// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {IAppAuthBasicManagement} from "../src/IAppAuthBasicManagement.sol";
import {IKmsAuthManagement} from "../src/IKmsAuthManagement.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";

/// @dev What is here beyond dstack's contracts: pause, deregistration, batches.
contract ExtensionsTest is Fixture {
    function testPauseOfAnAppRefusesEveryGuestOfIt() public {
        VM.expectEmit(address(app));
        emit PausableUpgradeable.Paused(TENANT);
        expectPolicy(address(app), TENANT, "paused", 0, true);
        VM.prank(TENANT);
        app.pause();
        VM.assertTrue(app.paused(), "paused");
        assertRefused(app, boot(), "App is paused");
        assertRefused(kms, boot(), "App is paused");

        VM.expectEmit(address(app));
        emit PausableUpgradeable.Unpaused(TENANT);
        expectPolicy(address(app), TENANT, "paused", 0, false);
        VM.prank(TENANT);
        app.unpause();
        assertAllowed(kms, boot());
    }

    function testPauseOfTheRegistryRefusesEverybody() public {
        allowAsKms();
        VM.prank(OPERATOR);
        kms.pause();
        assertRefused(kms, boot(), "KMS is paused");
        assertKms("KMS is paused");
        assertAllowed(app, boot());
        VM.prank(OPERATOR);
        kms.unpause();
        assertAllowed(kms, boot());
        assertKms("");
    }

    /// @dev A pause hides the rules and loses none, and does not keep anybody from tightening them.
    function testRulesCanBeChangedDuringAPause() public {
        VM.prank(TENANT);
        app.pause();
        VM.prank(TENANT);
        app.removeComposeHash(COMPOSE);
        VM.prank(TENANT);
        app.addComposeHash(OTHER);
        VM.prank(TENANT);
        app.unpause();
        assertRefused(app, boot(), "Compose hash not allowed");
        IAppAuth.AppBootInfo memory info = boot();
        info.composeHash = OTHER;
        assertAllowed(app, info);
    }

    function testPausingTwiceIsRefused() public {
        VM.prank(TENANT);
        app.pause();
        VM.expectRevert(abi.encodeWithSelector(PausableUpgradeable.EnforcedPause.selector));
        VM.prank(TENANT);
        app.pause();
        VM.expectRevert(abi.encodeWithSelector(PausableUpgradeable.ExpectedPause.selector));
        VM.prank(OPERATOR);
        kms.unpause();
    }

    function testFuzz_pauseOnlyRefuses(IAppAuth.AppBootInfo calldata info) public {
        (bool before,) = kms.isAppAllowed(info);
        VM.prank(OPERATOR);
        kms.pause();
        assertRefused(kms, info, "KMS is paused");
        VM.prank(OPERATOR);
        kms.unpause();
        (bool afterwards,) = kms.isAppAllowed(info);
        VM.assertTrue(before == afterwards, "the pause left something behind");
    }

    function testDeregistrationRefusesAtOnce() public {
        VM.expectEmit(address(kms));
        emit IKmsAuthManagement.AppDeregistered(address(app));
        expectPolicy(address(kms), OPERATOR, "registered-app", word(address(app)), false);
        VM.prank(OPERATOR);
        kms.deregisterApp(address(app));
        VM.assertTrue(kms.deregisteredApps(address(app)) && !kms.registeredApps(address(app)), "state");
        assertRefused(kms, boot(), "App not registered");
        assertAllowed(app, boot());
    }

    /// @dev Registration is open to all, so without this a deregistration would last until the next block.
    function testFuzz_onlyTheOwnerRegistersAgain(address caller) public {
        VM.assume(caller != OPERATOR);
        VM.prank(OPERATOR);
        kms.deregisterApp(address(app));
        VM.expectRevert(bytes("App was deregistered"));
        VM.prank(caller);
        kms.registerApp(address(app));
        assertRefused(kms, boot(), "App not registered");

        VM.expectEmit(address(kms));
        emit KmsAuth.AppRegistered(address(app));
        VM.prank(OPERATOR);
        kms.registerApp(address(app));
        assertAllowed(kms, boot());
        VM.assertFalse(kms.deregisteredApps(address(app)), "no longer barred");
        VM.prank(caller);
        kms.registerApp(address(app));
    }

    function testAnAppIsBarredInAdvance() public {
        VM.prank(OPERATOR);
        kms.deregisterApp(STRANGER);
        VM.expectRevert(bytes("App was deregistered"));
        kms.registerApp(STRANGER);
        VM.expectRevert(bytes("Invalid app ID"));
        VM.prank(OPERATOR);
        kms.deregisterApp(address(0));
    }

    /// @dev Not even the factory makes an application that its owner has barred.
    function testTheFactoryDoesNotGetAroundABar() public {
        address next = VM.computeCreateAddress(address(kms), VM.getNonce(address(kms)));
        VM.prank(OPERATOR);
        kms.deregisterApp(next);
        VM.expectRevert(bytes("App was deregistered"));
        kms.deployAndRegisterApp(TENANT, false, false, false, DEVICE, COMPOSE);
        VM.prank(OPERATOR);
        VM.assertEq(kms.deployAndRegisterApp(TENANT, false, false, false, DEVICE, COMPOSE), next, "application");
        VM.assertTrue(kms.registeredApps(next) && !kms.deregisteredApps(next), "state");
    }

    function testFuzz_batchesDoWhatSingleCallsDo(bytes32 first, bytes32 second) public {
        VM.assume(first != 0 && second != 0 && first != second);
        bytes32[] memory both = pair(first, second);
        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.ComposeHashAdded(first);
        expectPolicy(address(app), TENANT, "compose-hash", first, true);
        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.ComposeHashAdded(second);
        expectPolicy(address(app), TENANT, "compose-hash", second, true);
        VM.prank(TENANT);
        app.addComposeHashes(both);
        VM.prank(TENANT);
        app.addDevices(both);
        VM.prank(OPERATOR);
        kms.addOsImageHashes(both);
        VM.assertTrue(app.allowedComposeHashes(first) && app.allowedComposeHashes(second), "compose hashes");
        VM.assertTrue(app.allowedDeviceIds(first) && app.allowedDeviceIds(second), "devices");
        VM.assertTrue(kms.allowedOsImages(first) && kms.allowedOsImages(second), "images");

        VM.expectEmit(address(app));
        emit IAppAuthBasicManagement.DeviceRemoved(first);
        expectPolicy(address(app), TENANT, "device", first, false);
        VM.prank(TENANT);
        app.removeDevices(both);
        VM.prank(TENANT);
        app.removeComposeHashes(both);
        VM.prank(OPERATOR);
        kms.removeOsImageHashes(both);
        VM.assertFalse(app.allowedComposeHashes(first) || app.allowedComposeHashes(second), "compose hashes");
        VM.assertFalse(app.allowedDeviceIds(first) || app.allowedDeviceIds(second), "devices");
        VM.assertFalse(kms.allowedOsImages(first) || kms.allowedOsImages(second), "images");
    }

    function testFuzz_batchesOfKeyServersDoWhatSingleCallsDo(bytes32 first, bytes32 second) public {
        VM.assume(first != second);
        bytes32[] memory both = pair(first, second);
        VM.expectEmit(address(kms));
        emit KmsAuth.KmsAggregatedMrAdded(first);
        expectPolicy(address(kms), OPERATOR, "kms-aggregated-mr", first, true);
        VM.expectEmit(address(kms));
        emit KmsAuth.KmsAggregatedMrAdded(second);
        expectPolicy(address(kms), OPERATOR, "kms-aggregated-mr", second, true);
        VM.prank(OPERATOR);
        kms.addKmsAggregatedMrs(both);
        VM.prank(OPERATOR);
        kms.addKmsDevices(both);
        VM.assertTrue(kms.kmsAllowedAggregatedMrs(first) && kms.kmsAllowedAggregatedMrs(second), "measurements");
        VM.assertTrue(kms.kmsAllowedDeviceIds(first) && kms.kmsAllowedDeviceIds(second), "devices");

        VM.expectEmit(address(kms));
        emit KmsAuth.KmsDeviceRemoved(first);
        expectPolicy(address(kms), OPERATOR, "kms-device", first, false);
        VM.prank(OPERATOR);
        kms.removeKmsDevices(both);
        VM.prank(OPERATOR);
        kms.removeKmsAggregatedMrs(both);
        VM.assertFalse(kms.kmsAllowedAggregatedMrs(first) || kms.kmsAllowedAggregatedMrs(second), "measurements");
        VM.assertFalse(kms.kmsAllowedDeviceIds(first) || kms.kmsAllowedDeviceIds(second), "devices");
    }

    function testABatchHappensWhollyOrNotAtAll() public {
        VM.expectRevert(bytes("invalid compose hash"));
        VM.prank(TENANT);
        app.addComposeHashes(pair(OTHER, 0));
        VM.expectRevert(bytes("invalid device ID"));
        VM.prank(TENANT);
        app.addDevices(pair(OTHER, 0));
        VM.assertFalse(app.allowedComposeHashes(OTHER) || app.allowedDeviceIds(OTHER), "the first half happened");
    }

    function pair(bytes32 first, bytes32 second) private pure returns (bytes32[] memory both) {
        both = new bytes32[](2);
        (both[0], both[1]) = (first, second);
    }

    function allowAsKms() private {
        VM.prank(OPERATOR);
        kms.addKmsAggregatedMr(MEASUREMENT);
        VM.prank(OPERATOR);
        kms.addKmsDevice(DEVICE);
        assertKms("");
    }

    function assertKms(string memory expected) private view {
        (bool allowed, string memory reason) = kms.isKmsAllowed(boot());
        assertVerdict(allowed, reason, expected);
    }
}
