// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AppAuth} from "../src/AppAuth.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {Cheats, VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";

contract KmsAuthTest is Fixture {
    function testAllowsWhatMeetsEveryRule() public view {
        assertAllowed(kms, boot());
    }

    function testRefusesAnUnregisteredApp() public {
        KmsAuth other = newKms(OPERATOR, address(0));
        VM.prank(OPERATOR);
        other.addOsImageHash(IMAGE);
        assertRefused(other, boot(), "App not registered");
    }

    function testRefusesAnUnknownImage() public {
        IAppAuth.AppBootInfo memory info = boot();
        info.osImageHash = OTHER;
        assertRefused(kms, info, "OS image is not allowed");
        VM.prank(OPERATOR);
        kms.removeOsImageHash(IMAGE);
        assertRefused(kms, boot(), "OS image is not allowed");
    }

    function testRefusesAnAddressWithoutCode() public {
        kms.registerApp(STRANGER);
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = STRANGER;
        assertRefused(kms, info, "App not deployed or invalid address");
    }

    function testHandsOnTheReasonOfTheApp() public {
        IAppAuth.AppBootInfo memory info = boot();
        info.deviceId = OTHER;
        assertRefused(kms, info, "Device not allowed");
        VM.prank(TENANT);
        app.removeComposeHash(COMPOSE);
        assertRefused(kms, boot(), "Compose hash not allowed");
        info.tcbStatus = "OutOfDate";
        assertRefused(kms, info, "TCB status is not up to date");
    }

    function testNamesTheFirstFault() public view {
        IAppAuth.AppBootInfo memory info = boot();
        info.composeHash = OTHER;
        info.osImageHash = OTHER;
        assertRefused(kms, info, "OS image is not allowed");
        info.appId = STRANGER;
        assertRefused(kms, info, "App not registered");
    }

    /// @dev A contract that is no authorisation contract cannot be taken for one that allows.
    function testRevertsWhenTheAppDoesNotAnswer() public {
        address[3] memory others = [address(new Silent()), address(new Failing()), address(kms)];
        for (uint256 i = 0; i < others.length; i++) {
            kms.registerApp(others[i]);
            IAppAuth.AppBootInfo memory info = boot();
            info.appId = others[i];
            VM.expectRevert();
            kms.isAppAllowed{gas: 2_000_000}(info);
        }
    }

    function testRegistrationIsOpenAndAnnounced() public {
        VM.expectEmit(address(kms));
        emit KmsAuth.AppRegistered(STRANGER);
        expectPolicy(address(kms), STRANGER, "registered-app", word(STRANGER), true);
        VM.prank(STRANGER);
        kms.registerApp(STRANGER);
        VM.assertTrue(kms.registeredApps(STRANGER), "registered");

        VM.expectRevert(bytes("Invalid app ID"));
        kms.registerApp(address(0));
    }

    function testFactoryMakesAnAppOfTheNamedOwner() public {
        VM.recordLogs();
        VM.prank(STRANGER);
        AppAuth made = AppAuth(kms.deployAndRegisterApp(TENANT, true, true, false, DEVICE, COMPOSE));
        VM.assertEq(made.owner(), TENANT, "owner");
        VM.assertTrue(kms.registeredApps(address(made)), "registered");
        VM.assertTrue(made.requireTcbUpToDate() && !made.allowAnyDevice(), "flags");
        VM.assertTrue(made.allowedComposeHashes(COMPOSE) && made.allowedDeviceIds(DEVICE), "lists");
        VM.assertEq(VM.load(address(made), IMPLEMENTATION_SLOT), word(address(appImplementation)), "implementation");

        bytes32[] memory last = lastTopics();
        VM.assertEq(last[0], KmsAuth.AppDeployedViaFactory.selector, "event");
        VM.assertEq(last[1], word(address(made)), "application");
        VM.assertEq(last[2], word(STRANGER), "deployer");
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = address(made);
        assertAllowed(kms, info);
    }

    function testOldFactoryDemandsNothingOfThePlatform() public {
        AppAuth made = AppAuth(kms.deployAndRegisterApp(TENANT, false, true, 0, COMPOSE));
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = address(made);
        info.tcbStatus = "OutOfDate";
        info.deviceId = OTHER;
        assertAllowed(kms, info);
    }

    function testFactoryRefusals() public {
        VM.expectRevert(bytes("Invalid owner address"));
        kms.deployAndRegisterApp(address(0), false, false, false, DEVICE, COMPOSE);

        KmsAuth bare = newKms(OPERATOR, address(0));
        VM.expectRevert(bytes("DstackApp implementation not set"));
        bare.deployAndRegisterApp(TENANT, false, false, false, DEVICE, COMPOSE);
        VM.expectRevert(bytes("DstackApp implementation not set"));
        bare.deployAndRegisterApp(TENANT, false, false, DEVICE, COMPOSE);
    }

    function testAppImplementation() public {
        VM.expectRevert(bytes("Invalid implementation address"));
        VM.prank(OPERATOR);
        kms.setAppImplementation(address(0));

        address next = address(new AppAuth());
        VM.expectEmit(address(kms));
        emit KmsAuth.AppImplementationSet(next);
        expectPolicy(address(kms), OPERATOR, "app-implementation", word(next), true);
        VM.prank(OPERATOR);
        kms.setAppImplementation(next);
        address made = kms.deployAndRegisterApp(TENANT, false, false, 0, 0);
        VM.assertEq(VM.load(made, IMPLEMENTATION_SLOT), word(next), "new applications");
        VM.assertEq(VM.load(address(app), IMPLEMENTATION_SLOT), word(address(appImplementation)), "existing ones");
    }

    function testImageComesAndGoes() public {
        VM.expectEmit(address(kms));
        emit KmsAuth.OsImageHashAdded(OTHER);
        expectPolicy(address(kms), OPERATOR, "os-image", OTHER, true);
        VM.prank(OPERATOR);
        kms.addOsImageHash(OTHER);
        VM.assertTrue(kms.allowedOsImages(OTHER), "listed");

        VM.expectEmit(address(kms));
        emit KmsAuth.OsImageHashRemoved(OTHER);
        expectPolicy(address(kms), OPERATOR, "os-image", OTHER, false);
        VM.prank(OPERATOR);
        kms.removeOsImageHash(OTHER);
        VM.assertFalse(kms.allowedOsImages(OTHER), "no longer listed");
    }

    function testKmsRulesOneByOne() public {
        IAppAuth.AppBootInfo memory info = boot();
        assertKms(info, "Aggregated MR not allowed");

        VM.expectEmit(address(kms));
        emit KmsAuth.KmsAggregatedMrAdded(MEASUREMENT);
        expectPolicy(address(kms), OPERATOR, "kms-aggregated-mr", MEASUREMENT, true);
        VM.prank(OPERATOR);
        kms.addKmsAggregatedMr(MEASUREMENT);
        assertKms(info, "KMS is not allowed to boot on this device");

        VM.expectEmit(address(kms));
        emit KmsAuth.KmsDeviceAdded(DEVICE);
        expectPolicy(address(kms), OPERATOR, "kms-device", DEVICE, true);
        VM.prank(OPERATOR);
        kms.addKmsDevice(DEVICE);
        assertKms(info, "");

        info.osImageHash = OTHER;
        assertKms(info, "OS image is not allowed");
        info.tcbStatus = "OutOfDate";
        assertKms(info, "TCB status is not up to date");
    }

    function testKmsRulesGoAgain() public {
        VM.prank(OPERATOR);
        kms.addKmsAggregatedMr(MEASUREMENT);
        VM.prank(OPERATOR);
        kms.addKmsDevice(DEVICE);

        VM.expectEmit(address(kms));
        emit KmsAuth.KmsDeviceRemoved(DEVICE);
        expectPolicy(address(kms), OPERATOR, "kms-device", DEVICE, false);
        VM.prank(OPERATOR);
        kms.removeKmsDevice(DEVICE);
        assertKms(boot(), "KMS is not allowed to boot on this device");

        VM.expectEmit(address(kms));
        emit KmsAuth.KmsAggregatedMrRemoved(MEASUREMENT);
        expectPolicy(address(kms), OPERATOR, "kms-aggregated-mr", MEASUREMENT, false);
        VM.prank(OPERATOR);
        kms.removeKmsAggregatedMr(MEASUREMENT);
        assertKms(boot(), "Aggregated MR not allowed");
    }

    function testKmsInfo() public {
        VM.expectEmit(address(kms));
        emit KmsAuth.KmsInfoSet("root");
        expectPolicy(address(kms), OPERATOR, "kms-info", keccak256("root"), true);
        VM.prank(OPERATOR);
        kms.setKmsInfo(KmsAuth.KmsInfo("root", "authority", "quote", "log"));
        assertKmsInfo("root", "authority", "quote", "log");

        VM.prank(OPERATOR);
        kms.setKmsQuote("later quote");
        VM.prank(OPERATOR);
        kms.setKmsEventlog("later log");
        assertKmsInfo("root", "authority", "later quote", "later log");
    }

    function testGatewayAppId() public {
        VM.expectEmit(address(kms));
        emit KmsAuth.GatewayAppIdSet("gateway");
        expectPolicy(address(kms), OPERATOR, "gateway-app-id", keccak256("gateway"), true);
        VM.prank(OPERATOR);
        kms.setGatewayAppId("gateway");
        VM.assertEq(kms.gatewayAppId(), "gateway", "gatewayAppId");
    }

    function testFuzz_registrationConfersNothingByItself(address appId, bytes32 image, address caller) public {
        VM.assume(appId != address(0) && image != IMAGE);
        VM.prank(caller);
        kms.registerApp(appId);
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = appId;
        info.osImageHash = image;
        assertRefused(kms, info, "OS image is not allowed");
    }

    function testFuzz_unregisteredIsRefused(IAppAuth.AppBootInfo calldata info) public view {
        VM.assume(info.appId != address(app));
        assertRefused(kms, info, "App not registered");
    }

    function assertKms(IAppAuth.AppBootInfo memory info, string memory expected) private view {
        (bool allowed, string memory reason) = kms.isKmsAllowed(info);
        assertVerdict(allowed, reason, expected);
    }

    function assertKmsInfo(bytes memory root, bytes memory authority, bytes memory quote, bytes memory eventlog)
        private
        view
    {
        (bytes memory k256Pubkey, bytes memory caPubkey, bytes memory quote_, bytes memory eventlog_) = kms.kmsInfo();
        VM.assertEq(k256Pubkey, root, "k256Pubkey");
        VM.assertEq(caPubkey, authority, "caPubkey");
        VM.assertEq(quote_, quote, "quote");
        VM.assertEq(eventlog_, eventlog, "eventlog");
    }

    function lastTopics() private returns (bytes32[] memory) {
        Cheats.Log[] memory logs = VM.getRecordedLogs();
        return logs[logs.length - 1].topics;
    }
}

/// @dev Answers every call with nothing.
contract Silent {
    fallback() external {}
}

/// @dev Answers no call.
contract Failing {}
